"""What a replica says when it gives up: each known fault in the engine's words, and the sentence made of it."""

import pytest

from replica_builders import a_config
from shoal_api.replica_config import Stage
from shoal_serving.replica import faults
from shoal_serving.replica.notes import Died

CORE = "(EngineCore pid=11549) ERROR 11-21 10:26:58 [core.py:1512] "
WORKER = "(Worker pid=13544) ERROR 11-21 10:26:58 [multiproc_executor.py:1063] "
WRAPPED = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


def explain(log: str, text: str = WRAPPED, during: str = Stage.ENGINE, **given: object) -> tuple[str, bool]:
    killed = bool(given.pop("killed_for_memory", False))
    died = Died(during, text, is_refusal=bool(given.pop("is_refusal", False)))
    words = faults.explain(died, log, a_config(**given), killed_for_memory=killed)
    return words.sentence, words.permanent


@pytest.mark.parametrize(
    ("log", "says", "permanent"),
    [
        (
            f"{WORKER}RuntimeError: Unsupported CPU attention configuration: head_dim=16 isa=2 kv_cache_idx=0",
            ["head_dim=16", "GPU"],
            True,
        ),
        (
            f"{WORKER}ModuleNotFoundError: No module named 'runai_model_streamer'",
            ["vllm[runai]", "spec.engine.image", "pvc://"],
            True,
        ),
        (
            f"{WORKER}botocore.exceptions.NoCredentialsError: Unable to locate credentials",
            ["AWS_ACCESS_KEY_ID", "spec.model.credentials"],
            True,
        ),
        (
            (
                f"{WORKER}botocore.exceptions.ClientError: An error occurred (AccessDenied) when calling the "
                "ListObjectsV2 operation: no"
            ),
            ["refuses access", "spec.model.credentials"],
            True,
        ),
        (
            (
                f"{WORKER}botocore.errorfactory.NoSuchBucket: An error occurred (NoSuchBucket) when calling the "
                "ListObjectsV2 operation (reached max retries: 0): no"
            ),
            ["there is nothing at", "AWS_ENDPOINT_URL"],
            True,
        ),
        (
            f'{WORKER}botocore.exceptions.EndpointConnectionError: Could not connect to the endpoint URL: "http://s3/b"',
            ["http://s3/b", "AWS_ENDPOINT_URL"],
            False,
        ),
        (
            f"{WORKER}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            ["GPU's memory is too small", "--max-model-len", "parallelism.tensor"],
            True,
        ),
        (
            (
                f"{WORKER}ValueError: Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than desired "
                f"GPU memory utilization (0.92, 72.9 GiB)."
            ),
            ["another process holds", "3.1/79.2 GiB", "--gpu-memory-utilization"],
            False,
        ),
        (
            (
                f"{CORE}ValueError: To serve at least one request with the models's max seq len (2048), (0.5 GiB KV "
                "cache is needed, which is larger than the available KV cache memory (0.1 GiB). Based on the "
            ),
            ["0.5 GiB", "0.1 GiB", "--max-model-len", "VLLM_CPU_KVCACHE_SPACE"],
            True,
        ),
        (
            f"{CORE}ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
            ["KV cache", "VLLM_CPU_KVCACHE_SPACE"],
            True,
        ),
        (
            (
                f"{WORKER}RuntimeError: [enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)"
            ),
            ["not enough memory", "resources.memory", "VLLM_CPU_KVCACHE_SPACE"],
            True,
        ),
        (
            f"{CORE}ValueError: Total number of attention heads (2) must be divisible by tensor parallel size (3).",
            ["parallelism.tensor is 3", "2 attention heads"],
            True,
        ),
        (
            f"{CORE}ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported: dict_keys",
            ["['FooForCausalLM']", "does not support"],
            True,
        ),
        (
            (
                "ValueError: The checkpoint you are trying to load has model type `foomodel` but Transformers does not "
                "recognize this architecture."
            ),
            ["foomodel", "newer engine"],
            True,
        ),
        (
            "ValueError: The repository x contains custom code ... Please pass the argument `trust_remote_code=True`",
            ["--trust-remote-code"],
            True,
        ),
        (
            "huggingface_hub.errors.GatedRepoError: 401 Client Error. Access to model org/m is restricted.",
            ["refuses access", "spec.model.credentials"],
            True,
        ),
        (
            "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them",
            ["hub cannot be reached", "/models/llama"],
            False,
        ),
        (
            "OSError: It looks like the config file at '/models/llama/config.json' is not a valid JSON file.",
            ["/models/llama/config.json is not valid JSON"],
            True,
        ),
        (
            f"{WORKER}RuntimeError: Cannot find any model weights with `/models/llama`",
            ["/models/llama holds no weights"],
            True,
        ),
        (
            f"{WORKER}safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata",
            ["damaged or cut short"],
            True,
        ),
        (
            "OSError: Can't load tokenizer for '/models/llama'. If you were trying to load it from",
            ["tokenizer of /models/llama", "--tokenizer"],
            True,
        ),
        ("Exception: The current node timed out during startup. This could", ["Ray did not start", "busy"], False),
        (
            'File "/x/tokenization_utils_tokenizers.py", line 9, in __init__\n  raise\njson.JSONDecodeError: Expecting',
            ["tokenizer of /models/llama"],
            True,
        ),
        (
            "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4",
            ["Bfloat16 is only supported on GPUs with compute capability", "--dtype"],
            True,
        ),
        ("RuntimeError: Failed to infer device type, please set", ["no usable GPU", "resources.gpu"], False),
        ("OSError: [Errno 28] No space left on device: '/cache/x'", ["disk of the pod is full"], False),
        ("OSError: [Errno 28] No space left on device: '/dev/shm/nccl-1'", ["resources.sharedMemory"], True),
        ("RuntimeError: /dev/shm: No space left on device", ["resources.sharedMemory"], True),
        (
            "RuntimeError: Failed to bind to address '127.0.0.1:31050'.",
            ["port 31050 on 127.0.0.1 was taken"],
            False,
        ),
    ],
)
def test_a_known_fault_becomes_a_sentence_that_says_what_to_do(log: str, says: list[str], permanent: bool) -> None:
    sentence, is_permanent = explain(f"INFO something before\n{log}\nINFO something after\n")
    for part in says:
        assert part in sentence
    assert is_permanent is permanent


def test_what_the_dying_process_knew_itself_counts_before_the_log() -> None:
    text = (
        "ValidationError: 1 validation error for ModelConfig\n  Value error, User-specified max_model_len (99999) is "
        "greater than the derived max_model_len (max_position_embeddings=2048 or model_max_length=None)."
    )
    sentence, permanent = explain("OSError: No space left on device", text)
    assert sentence.startswith("--max-model-len 99999 is more than this model can do (max_position_embeddings is 2048)")
    assert permanent


def test_a_refusal_is_passed_on_unchanged_as_permanent() -> None:
    text = "vLLM refuses engine.args: unrecognized arguments: --frobnicate"
    assert explain("", text, is_refusal=True) == (text, True)


def test_an_unknown_fault_is_told_by_its_root_and_not_by_what_passed_it_on() -> None:
    log = "\n".join(
        [
            f"{WORKER}Traceback (most recent call last):",
            f'{WORKER}  File "x.py", line 3, in load',
            f"{WORKER}KeyError: 'layers.7.weight'",
            f"{CORE}Exception: WorkerProc initialization failed due to an exception in a background process.",
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
        ]
    )
    assert explain(log) == ("the engine died while it loaded the model: KeyError: 'layers.7.weight'", False)


def test_a_validation_error_is_told_by_its_inner_sentence() -> None:
    text = "ValidationError: 1 validation error for X\n  Value error, no such thing [type=value_error, input_value=1]"
    assert explain("", text) == ("the engine died while it loaded the model: no such thing", False)


def test_an_engine_that_served_may_serve_again_so_its_death_is_not_permanent() -> None:
    log = f"{WORKER}torch.OutOfMemoryError: CUDA out of memory."
    assert explain(log, "the engine core died", Stage.READY)[1] is False


def test_a_process_that_said_nothing_was_ended_from_outside() -> None:
    sentence, permanent = explain("INFO all is well\n", "the engine core died", Stage.READY)
    assert sentence.startswith("the engine core died while it served and said no cause: something outside ended it")
    assert not permanent


def test_a_kill_for_memory_is_told_as_such() -> None:
    sentence, permanent = explain("", "the engine core died", Stage.READY, killed_for_memory=True)
    assert "memory limit" in sentence
    assert "resources.memory" in sentence
    assert not permanent


@pytest.mark.parametrize(("gpus", "remedy"), [(0, "VLLM_CPU_KVCACHE_SPACE"), (1, "--gpu-memory-utilization")])
def test_the_remedy_fits_the_device(gpus: int, remedy: str) -> None:
    assert remedy in explain("ValueError: No available memory for the cache blocks.", gpus=gpus)[0]


def test_a_very_long_line_is_cut() -> None:
    assert len(explain("ValueError: " + "x" * 10_000)[0]) < 1000
