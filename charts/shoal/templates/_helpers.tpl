{{- define "shoal.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "shoal.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: shoal
{{ include "shoal.selector" . }}
{{- end -}}

{{- define "shoal.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "shoal.operator.selector" -}}
{{ include "shoal.selector" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "shoal.gateway.selector" -}}
{{ include "shoal.selector" . }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "shoal.operator.serviceAccount" -}}
{{- if .Values.operator.serviceAccount.create -}}
{{- default (printf "%s-operator" (include "shoal.fullname" .)) .Values.operator.serviceAccount.name -}}
{{- else -}}
{{- required "operator.serviceAccount.name: name the service account that is there, or let the chart make one (operator.serviceAccount.create)" .Values.operator.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "shoal.gateway.serviceAccount" -}}
{{- if .Values.gateway.serviceAccount.create -}}
{{- default (printf "%s-gateway" (include "shoal.fullname" .)) .Values.gateway.serviceAccount.name -}}
{{- else -}}
{{- required "gateway.serviceAccount.name: name the service account that is there, or let the chart make one (gateway.serviceAccount.create)" .Values.gateway.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* The reference of one image: (dict "root" $ "image" .Values.images.control) */ -}}
{{- define "shoal.image" -}}
{{- $registry := .root.Values.images.registry | trimSuffix "/" -}}
{{- $repository := ternary .image.repository (printf "%s/%s" $registry .image.repository) (empty $registry) -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "shoal.masterKeySecret" -}}
{{- default (printf "%s-master-key" (include "shoal.fullname" .)) .Values.masterKey.existingSecret -}}
{{- end -}}

{{- define "shoal.apiKeysSecret" -}}
{{- default (printf "%s-api-keys" (include "shoal.fullname" .)) .Values.apiKeys.existingSecret -}}
{{- end -}}

{{- define "shoal.firstKeySecret" -}}
{{- printf "%s-first-key" (include "shoal.fullname" .) -}}
{{- end -}}

{{- define "shoal.surgePriorityClass" -}}
{{- if .Values.models.surgePriority.create -}}
{{- default (printf "%s-surge-%s" (include "shoal.fullname" .) .Release.Namespace) .Values.models.surgePriority.name -}}
{{- else -}}
{{- .Values.models.surgePriority.name -}}
{{- end -}}
{{- end -}}

{{- define "shoal.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "shoal.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* What both programs' pods take over from their values: (dict "root" $ "values" .Values.gateway) */ -}}
{{- define "shoal.placement" -}}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := .values.tolerations }}
{{- range $key := list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" }}
{{- $chosen := false }}
{{- range $.values.tolerations }}
{{- if or (not .key) (eq .key $key) }}{{ $chosen = true }}{{ end }}
{{- end }}
{{- if not $chosen }}
{{- $tolerations = append $tolerations (dict "key" $key "operator" "Exists" "effect" "NoExecute" "tolerationSeconds" 30) }}
{{- end }}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "shoal.operator.rules" -}}
- apiGroups: [shoal.dev]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [shoal.dev]
  resources: [modeldeployments/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims]
  verbs: [get]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, create, patch]
{{- end -}}

{{- define "shoal.gateway.rules" -}}
- apiGroups: [shoal.dev]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- end -}}

{{- define "shoal.madeOnce" -}}
annotations:
  helm.sh/hook: pre-install,pre-upgrade
  helm.sh/hook-weight: "-10"
  helm.sh/hook-delete-policy: hook-failed
{{- end -}}
