"""Sets of values that between them switch everything of the chart on and off."""

from typing import Any

import pytest

EVERYTHING: dict[str, Any] = {
    "namespaces": ["team-a", "team-b"],
    "images": {
        "registry": "registry.example.com/shoal/",
        "engine": {"digest": "sha256:" + "0" * 64},
        "pullSecrets": ["registry"],
        "prePull": {"enabled": True, "images": ["registry.example.com/other:1"], "nodeSelector": {"pool": "gpu"}},
    },
    "models": {
        "fileRoots": ["/models", "/data"],
        "cache": {"nodePath": "/var/cache/shoal"},
        "offline": True,
        "allowRemoteCode": True,
        "imageVolumes": True,
        "s3Endpoints": ["minio.storage.svc:9000"],
        "pullSecrets": ["a", "b"],
    },
    "operator": {"replicas": 2, "podLabels": {"x": "y"}, "nodeSelector": {"pool": "cpu"}, "priorityClassName": "high"},
    "gateway": {
        "autoscaling": {"enabled": True},
        "service": {
            "type": "LoadBalancer",
            "port": 8080,
            "nodePort": 31111,
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
        },
        "ingress": {"enabled": True, "className": "nginx", "hosts": ["llm.example.com"], "tlsSecret": "llm-tls"},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["llm.example.com"]},
        "tolerations": [{"operator": "Exists"}],
        "env": [{"name": "TZ", "value": "UTC"}],
        "maxHeldBytes": 8589934592,
    },
    "networkPolicy": {"metricsFrom": [{"podSelector": {}}], "clientsFrom": [{"podSelector": {}}]},
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
    "test": {"model": "llama"},
}
GITOPS: dict[str, Any] = {
    "masterKey": {"existingSecret": "our-master"},
    "apiKeys": {"existingSecret": "our-keys"},
    "test": {"apiKeySecret": "our-key"},
}
BARE: dict[str, Any] = {
    "crds": {"install": False},
    "rbac": {"create": False},
    "apiKeys": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "models": {"surgePriority": {"create": False}},
    "operator": {"serviceAccount": {"create": False, "name": "mine"}},
    "gateway": {"serviceAccount": {"create": False, "name": "mine"}, "podDisruptionBudget": {"enabled": False}},
}
SETS = pytest.mark.parametrize(
    "values", [{}, EVERYTHING, GITOPS, BARE], ids=["as it is", "everything", "gitops", "bare"]
)
