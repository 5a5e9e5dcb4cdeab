"""The one configuration tree: YAML in, frozen and validated out; a default is written here and nowhere else."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from probe.records import MergeProbeError


class ConfigError(MergeProbeError):
    """The configuration cannot be used; the message names the key, the value and what was expected."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseModelConfig(_Section):
    """Which base model the bank's adapters were trained on."""

    name: str = "SmolLM2-135M-Instruct"
    """Model id that clients use for the base itself."""
    path: Path | None = None
    """Folder with safetensors weights; None makes the embedded SmolLM2-135M-Instruct."""
    aliases: tuple[str, ...] = ("HuggingFaceTB/SmolLM2-135M-Instruct",)
    """Other names that an adapter's `base_model_name_or_path` may give."""


class ServerConfig(_Section):
    """Where the endpoint listens, and its keys."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    api_key: str | None = Field(None, min_length=1)
    """Bearer key of the data plane (`/v1`)."""
    admin_key: str | None = Field(None, min_length=1)
    """Bearer key of the admin plane (`/bank`, and the two drop-in routes under `/v1`)."""

    metrics_port: int = Field(8001, ge=1, le=65535)
    """Where Ray exports the replicas' request series for Prometheus."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the endpoint."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # some other name: where it leads is not ours to guess
            return False

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class EngineConfig(_Section):
    """What Ray Serve LLM and vLLM get; the GPU path differs only in `accelerator` and `engine_kwargs`."""

    accelerator: Literal["cpu", "gpu"] = "cpu"
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Largest rank of a module: vLLM reserves this much a slot, so not far above what adapters need."""
    max_loras: int = Field(8, ge=1)
    """Modules that one batch may mix (vLLM's slots)."""
    max_cpu_loras: int = Field(64, ge=1)
    """Modules kept in host memory a replica; above it vLLM evicts the least recently used."""
    engine_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Passed to vLLM as they are (tensor_parallel_size, max_model_len, dtype, ...)."""
    deployment: dict[str, Any] = Field(default_factory=dict)
    """Passed to Ray Serve as they are (num_replicas, autoscaling_config, ray_actor_options, ...)."""
    placement_group: dict[str, Any] | None = None
    """Passed to Ray as it is (bundles, strategy)."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the engine's processes."""
    max_ongoing_requests: int = Field(64, ge=1)
    """Requests that a replica runs at once."""
    max_queued_requests: int = Field(256, ge=0)
    """Requests that may wait in a replica's engine beyond those; more are refused with 429 and Retry-After."""


class PolicyConfig(_Section):
    """What may be merged, and how good a merged module has to be."""

    target_retention: float = Field(0.85, ge=0, le=1.5)
    """Ret*: the one-sided 90 % lower bound that every member must pass (delta = 0.15 of the paper)."""
    lambda_cost: float = Field(0.5, ge=0)
    """What one active adapter costs, in units of one adapter's full retention."""
    hysteresis: float = Field(0.05, ge=0)
    """By how much a new plan's score must beat the running one's to pay for a swap."""
    protected_domains: tuple[str, ...] = ("safety",)
    """Adapters of these domains are never merged."""
    max_group_size: int = Field(5, ge=2)
    """Most members of a merged module."""
    max_trials: int = Field(2, ge=0)
    """Groups built and measured in one tick."""
    recipes: tuple[tuple[str, str], ...] = Field(
        (("mean", "none"), ("ta", "mean_source"), ("ta", "none")), min_length=1, max_length=3
    )
    """(operator, norm rule) to try on a group, in this order; three at most, since each costs a measurement."""

    @field_validator("recipes")
    @classmethod
    def _known_recipes(cls, recipes: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        from probe.operators import OPERATORS, Norm  # imports torch, which the commands that only speak HTTP do without

        usable = [key for key, row in OPERATORS.items() if not row.needs]
        for operator, norm in recipes:
            if operator not in OPERATORS or norm not in get_args(Norm):
                known = f"operators are {', '.join(usable)}; norm rules are {', '.join(get_args(Norm))}"
                raise ValueError(f"the recipe ({operator}, {norm}) is unknown: {known}")
            if operator not in usable:
                needed = " and ".join(sorted(OPERATORS[operator].needs))
                raise ValueError(
                    f"the recipe ({operator}, {norm}) reads the {needed}, which the controller does not collect; "
                    f"operators without such needs are {', '.join(usable)}"
                )
        return recipes


class MergeConfig(_Section):
    """Limits of one merge, which runs in a process of its own on the controller's node."""

    memory_bytes: int = Field(2 << 30, ge=1 << 20)
    """What a merge may allocate, its process's libraries apart. Five rank-16 adapters of an 8B model take 1.5 GiB, and
    2 GiB are free beside the engine on the 8 GiB machine that the README names."""
    timeout_seconds: float = Field(600.0, gt=0)
    """How long a merge may take, once its process has started: those adapters take 40 s on one core, and the tick
    waits."""


class VerifyConfig(_Section):
    """How a loaded module is checked before it serves anybody."""

    reference: bool = True
    """Compare with transformers+PEFT on the CPU; switch off for bases too large to load there."""
    num_reference_rows: int = Field(4, ge=1)
    reference_tolerance_nats: float = Field(0.05, gt=0)
    """Largest difference of mean answer log-likelihood, engine against reference (float32 agrees to about 1e-4)."""
    max_concurrent_rows: int = Field(4, ge=1)
    """Evaluation rows in the engine at once. Every one lengthens the steps that clients' tokens wait for."""


class ControllerConfig(_Section):
    """The controller's clockwork."""

    interval_seconds: float = Field(60.0, gt=0)
    """Timer between ticks."""
    debounce_seconds: float = Field(2.0, ge=0)
    """Quiet time after the last registration before a tick starts."""


class IntakeConfig(_Section):
    """What a registration may bring, and from where."""

    roots: tuple[Path, ...] = ()
    """Folders that local sources must lie in; empty refuses every local path."""
    max_adapter_bytes: int = Field(2 << 30, ge=1)
    max_calibration_rows: int = Field(256, ge=1)
    max_evaluation_rows: int = Field(2000, ge=1)


class Config(_Section):
    """Everything that a running bank needs to know."""

    base: BaseModelConfig = BaseModelConfig()
    server: ServerConfig = ServerConfig()
    engine: EngineConfig = EngineConfig()
    policy: PolicyConfig = PolicyConfig()
    merge: MergeConfig = MergeConfig()
    verify: VerifyConfig = VerifyConfig()
    controller: ControllerConfig = ControllerConfig()
    intake: IntakeConfig = IntakeConfig()
    state: Path = Path("var")
    """Folder of the store, the embedded base and, by default, the registry."""
    registry_url: str | None = None
    """SQLAlchemy URL; None is SQLite in the state folder."""

    @model_validator(mode="after")
    def _keys_off_loopback(self) -> Config:
        if not self.server.is_loopback and not (self.server.api_key and self.server.admin_key):
            raise ValueError(
                f"server.host {self.server.host} can be reached from other machines, so server.api_key and "
                "server.admin_key are both required; set them, or listen on 127.0.0.1"
            )
        return self

    @property
    def registry(self) -> str:
        """The registry's SQLAlchemy URL."""
        return self.registry_url or f"sqlite:///{self.state.resolve() / 'registry.db'}"

    @property
    def store(self) -> Path:
        """Folder of the content-addressed store."""
        return self.state.resolve() / "store"


def read_config(path: Path | None = None, **overrides: Any) -> Config:
    """Read a YAML file (or only the defaults) and lay dotted overrides over it, None meaning "not given".

    Raises
    ------
    ConfigError
        If the file is missing or no mapping, or a key is unknown or has a bad value.

    Examples
    --------
    >>> read_config(server__port=9000).server.url
    'http://127.0.0.1:9000'
    """
    tree = _read_yaml(path) if path else {}
    for dotted, value in overrides.items():
        if value is not None:
            _assign(tree, dotted.split("__"), value)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"the configuration {path} holds a {type(tree).__name__}, expected a mapping of sections")
    return tree


def _assign(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    *parents, last = keys
    for key in parents:
        if tree.get(key) is None:
            tree[key] = {}
        if not isinstance(tree[key], dict):
            return  # left as it is, for the validation to name
        tree = tree[key]
    tree[last] = value


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = [f"the configuration {path or '(defaults and options)'} cannot be used:"]
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"])) or "(whole file)"
        seen = "" if problem["type"] == "value_error" else f" (seen: {problem['input']!r})"
        lines.append(f"  {where}: {problem['msg']}{seen}")
    return "\n".join(lines)
