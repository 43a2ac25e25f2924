"""Decide what a replica says when it gives up: one sentence about the cause, what to do, and whether to try again."""

import re
from dataclasses import dataclass

from shoal_api.replica_config import ReplicaConfig, Stage
from shoal_api.termination import LastWords
from shoal_serving.replica.notes import Died


@dataclass(frozen=True, slots=True)
class Fault:
    """A known cause: how it shows in the engine's words, and what is said then.

    The sentence may name the pattern's groups, the configuration's `source`, `host`, `port` and `gpus`, and the ways to
    more cache or less memory, which differ with and without a GPU.
    """

    pattern: re.Pattern[str]
    sentence: str
    permanent: bool


def _fault(pattern: str, sentence: str, *, permanent: bool = True) -> Fault:
    return Fault(re.compile(pattern, re.IGNORECASE), sentence, permanent)


KNOWN: tuple[Fault, ...] = (
    _fault(
        r"The current node timed out during startup",
        "Ray did not start in time: the machine is very busy, or has too few cores for what runs on it",
        permanent=False,
    ),
    _fault(
        r"Unsupported CPU attention configuration: (?P<what>head_dim=\d+)",
        "the engine's attention on CPU cannot compute this model ({what}) and dies at its first request: serve it on a "
        "GPU or use a model with a head dimension of 32 or more",
    ),
    _fault(
        r"CUDA out of memory|HIP out of memory|torch\.OutOfMemoryError",
        "the GPU's memory is too small for this model and its settings: lower --max-model-len, --max-num-seqs or "
        "--gpu-memory-utilization in engine.args, use a quantised model, or raise parallelism.tensor",
    ),
    _fault(
        r"Free memory on device \S+ \((?P<free>[^)]*)\)[^.]*[^\n]*is less than desired GPU memory utilization",
        "another process holds the GPU's memory (free: {free}): end it, or lower --gpu-memory-utilization",
        permanent=False,
    ),
    _fault(
        r"\((?P<needed>[\d.]+ [GMK]iB) KV cache is needed, which is larger than the available KV cache memory "
        r"\((?P<free>[\d.]+ [GMK]iB)\)",
        "the KV cache ({free}) does not hold one request of full length ({needed}): lower --max-model-len in "
        "engine.args, or {more_cache}",
    ),
    _fault(
        r"larger than the available KV cache memory",
        "the KV cache does not hold one request of full length: lower --max-model-len in engine.args, or {more_cache}",
    ),
    _fault(
        r"No available memory for the cache blocks",
        "there is no memory left for the KV cache beside the weights: {more_cache}, or use a smaller model",
    ),
    _fault(
        r"can't allocate memory: you tried to allocate|DefaultCPUAllocator: not enough memory|\bMemoryError\b"
        r"|Not enough memory for|Available memory on node [^\n]* is less than",
        "there is not enough memory for this model and its KV cache: raise resources.memory, or lower {less_memory}",
    ),
    _fault(
        r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\((?P<what>\w+)=(?P<limit>\d+)",
        "--max-model-len {asked} is more than this model can do ({what} is {limit}): lower it in engine.args",
    ),
    _fault(
        r"number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<ranks>\d+)\)",
        "parallelism.tensor is {ranks}, which does not divide the model's {heads} attention heads: choose a divisor",
    ),
    _fault(
        r"Model architectures (?P<names>\[[^\]]*\]) (?:are not supported|failed to be inspected)",
        "the engine does not support this model's architecture {names}: use another model or a newer engine",
    ),
    _fault(
        r"has model type [`'\"]?(?P<type>[\w.-]+)[`'\"]? but Transformers does not recognize this architecture",
        "the engine does not know this model's type ({type} in config.json): use another model or a newer engine",
    ),
    _fault(
        r"trust_remote_code=True",
        "the model brings code of its own, which runs only with --trust-remote-code in engine.args where the "
        "installation allows it",
    ),
    _fault(
        r"GatedRepoError|is a gated repo|Access to model \S+ is restricted|401 Client Error",
        "the hub refuses access to {source}: accept its licence there and name a Secret with a token in "
        "spec.model.credentials",
    ),
    _fault(
        r"RepositoryNotFoundError|404 Client Error",
        "the hub has no model {source}, or it is private: check spec.model.source and spec.model.credentials",
    ),
    _fault(
        r"No module named '(?P<module>runai_model_streamer\w*|boto3)'",
        "this engine image cannot read buckets ({module} is missing): name an image with vllm[runai] in "
        "spec.engine.image, or put the model on a claim and use pvc://",
    ),
    _fault(
        r"Unable to locate credentials|NoCredentialsError|\((?P<code>AccessDenied|InvalidAccessKeyId|403"
        r"|SignatureDoesNotMatch|ExpiredToken)\) when calling",
        "the bucket refuses access to {source}: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret of "
        "spec.model.credentials",
    ),
    _fault(
        r"\((?:NoSuchBucket|NoSuchKey)\) when calling",
        "there is nothing at {source}: check spec.model.source and AWS_ENDPOINT_URL in spec.engine.env",
    ),
    _fault(
        r"Could not connect to the endpoint URL: \"(?P<url>[^\"]+)\"",
        "the S3 endpoint cannot be reached ({url}): check AWS_ENDPOINT_URL and AWS_REGION in spec.engine.env",
        permanent=False,
    ),
    _fault(
        r"couldn't connect to|offline mode is enabled|LocalEntryNotFoundError|OfflineModeIsEnabled"
        r"|Failed to resolve|Temporary failure in name resolution|Name or service not known"
        r"|Max retries exceeded with url|ConnectError|ConnectTimeout|ProxyError|cannot find the requested files in the",
        "the model hub cannot be reached for {source}: let the replica reach it, or put the model on a volume and name "
        "its path in spec.model.source",
        permanent=False,
    ),
    _fault(
        r"is not a local folder and is not a valid model identifier",
        "{source} is neither a directory here nor a model of the hub: check spec.model.source and its credentials",
    ),
    _fault(
        r"the config file at '(?P<file>[^']+)' is not a valid JSON file",
        "{file} is not valid JSON: copy the model again",
    ),
    _fault(
        r"Cannot find any model weights|no file named [^\n]*(?:safetensors|bin)",
        "{source} holds no weights (*.safetensors): copy the whole model there",
    ),
    _fault(
        r"SafetensorError|Error while deserializing header|MetadataIncompleteBuffer",
        "a weights file in {source} is damaged or cut short: copy the model again",
    ),
    _fault(
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer|Unable to load tokenizer"
        r"|data did not match any variant of untagged enum|tokenizers/[^\n]*\n[^\n]*Exception: "
        r"|convert a slow tokenizer|File \"[^\"\n]*tokeniz[^\"\n]*\", line \d+[\s\S]{0,6000}JSONDecodeError",
        "the tokenizer of {source} is missing or damaged: copy its tokenizer files there, or name another with "
        "--tokenizer in engine.args",
    ),
    _fault(
        r"(?P<words>Bfloat16 is only supported on GPUs[^\n.]*|dtype \S+ is not supported[^\n.]*|Unknown dtype: \S+)",
        "{words}: choose another --dtype in engine.args",
    ),
    _fault(
        r"Failed to infer device type|no CUDA-capable device|No CUDA GPUs are available|Found no NVIDIA driver"
        r"|CUDA driver version is insufficient",
        "the engine finds no usable GPU in this pod: check the node's driver, resources.gpu and "
        "scheduling.runtimeClassName",
        permanent=False,
    ),
    _fault(
        r"No space left on device[^\n]*(?:shm|shared)|/dev/shm[^\n]*(?:No space left|too small)|\bbus error\b",
        "the shared memory of the pod is too small for the engine: raise resources.sharedMemory",
    ),
    _fault(
        r"No space left on device",
        "the disk of the pod is full: give it more ephemeral storage or a larger volume",
        permanent=False,
    ),
    _fault(
        r"port already in use|Failed to bind to address|Address already in use",
        "port {port} on {host} was taken by another program while the engine loaded: end it or choose another port",
        permanent=False,
    ),
)

_DOING = {
    Stage.RAY: "while Ray started",
    Stage.IMPORTS: "while its code was imported",
    Stage.ENGINE: "while it loaded the model",
    Stage.SELF_TEST: "at its first request",
    Stage.READY: "while it served",
    Stage.DRAINING: "while it drained",
}
_PREFIX = re.compile(r"^(?:\([^)]*pid=\d+\) )?(?:(?:ERROR|CRITICAL|WARNING|INFO) [\d-]+ [\d:.]+ \[[^\]]*\] ?)?")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failure)(?:: .*)?$")
_WRAPPERS = re.compile(
    r"Engine core initialization failed|EngineDeadError|EngineGenerateError|WorkerProc initialization failed"
    r"|EngineCore encountered|RayTaskError|SelfTestFailed|CancelledError|BrokenPipeError|Executor failed|SystemExit"
    r"|KeyboardInterrupt|RayActorError|please check the stack trace above"
)
_VALUE_ERROR = re.compile(r"Value error, (?P<text>.+?)(?: \[type=|$)", re.DOTALL)
_LIMIT = 600
_MEMORY_LIMIT = (
    "the replica reached its memory limit and the kernel ended one of its processes: raise resources.memory, or lower "
    "{less_memory}"
)
_FROM_OUTSIDE = "and said no cause: something outside ended it (a signal, or the node was out of memory)"


def explain(died: Died, log: str, config: ReplicaConfig, *, killed_for_memory: bool) -> LastWords:
    """The last words for a death, from what the dying process knew and what the engine printed."""
    if died.is_refusal:
        return LastWords(died.text, permanent=True)
    if died.is_sentence:
        return LastWords(died.text, permanent=False)
    if killed_for_memory:
        return LastWords(_MEMORY_LIMIT.format(**_words(config)), permanent=False)
    doing = _DOING.get(Stage(died.during), "while it served")
    lines = _lines(log)
    served = died.during in (Stage.READY, Stage.DRAINING)
    for evidence in (died.text, "\n".join(line for line in lines if served is False or _EXCEPTION.match(line))):
        for fault in KNOWN:
            if (match := fault.pattern.search(evidence)) is not None:
                # What has served once is no hopeless configuration: it may serve again.
                sentence = fault.sentence.format(**_words(config) | match.groupdict())
                return LastWords(sentence, permanent=fault.permanent and not served)
    root = root_cause(died.text, lines)
    if not root:
        return LastWords(f"{died.text} {doing} {_FROM_OUTSIDE}", permanent=False)
    return LastWords(f"the engine died {doing}: {root}", permanent=False)


def root_cause(text: str, lines: list[str]) -> str:
    """The most telling line: what raised, not what only passed it on; empty where nothing tells."""
    if (match := _VALUE_ERROR.search(text)) is not None:
        return _cut(match["text"])
    own = _first_line(text)
    if _EXCEPTION.match(own) and not _WRAPPERS.search(own):
        return _cut(own)
    raised = [line for line in lines if _EXCEPTION.match(line) and not _WRAPPERS.search(line)]
    if raised:
        return _cut(raised[-1])
    return _cut(own) if _EXCEPTION.match(own) or own.startswith("SelfTestFailed") else ""


def _lines(log: str) -> list[str]:
    return [_PREFIX.sub("", line).strip() for line in log.splitlines()]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LIMIT else flat[: _LIMIT - 1] + "…"


def _words(config: ReplicaConfig) -> dict[str, object]:
    on_cpu = config.gpus == 0
    return {
        "source": config.source,
        "host": config.host,
        "port": config.port,
        "gpus": config.gpus,
        "more_cache": "raise VLLM_CPU_KVCACHE_SPACE (GiB) in engine.env"
        if on_cpu
        else "raise --gpu-memory-utilization in engine.args",
        "less_memory": "VLLM_CPU_KVCACHE_SPACE (GiB) in engine.env" if on_cpu else "--max-model-len in engine.args",
    }
