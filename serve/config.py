"""The one configuration tree: YAML in, frozen and validated out; a default is written here and nowhere else."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from probe.plan_score import LAMBDA_COST, MIN_IMPROVEMENT, TARGET_RETENTION
from probe.records import MergeProbeError
from serve.limited.limits import MergeConfig, SignalsConfig
from serve.section import Section


class ConfigError(MergeProbeError):
    """The configuration cannot be used; the message names the key, the value and what was expected."""


class BaseModelConfig(Section):
    """Which base model the bank's adapters were trained on."""

    name: str = "SmolLM2-135M-Instruct"
    """Model id that clients use for the base itself."""
    path: Path | None = None
    """Folder with safetensors weights; None makes the embedded SmolLM2-135M-Instruct."""
    aliases: tuple[str, ...] = ("HuggingFaceTB/SmolLM2-135M-Instruct",)
    """Other names that an adapter's `base_model_name_or_path` may give."""


class ServerConfig(Section):
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


class EngineConfig(Section):
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


NO_PREDICTOR = "none"
"""Value of `policy.predictor` for planning without forecasts."""


class PolicyConfig(Section):
    """What may be merged, how good a merged module has to be, and who has the last word."""

    mode: Literal["auto", "approve"] = "auto"
    """auto: plans are carried out, and change unprotected adapters only. approve: what the controller thought of waits
    for a person; registrations and removals are a person's acts already, and are served at once, separately."""
    target_retention: float = Field(TARGET_RETENTION, ge=0, le=1.5)
    """Ret*: the one-sided 90 % lower bound that every member must pass (delta = 0.15 of the paper)."""
    lambda_cost: float = Field(LAMBDA_COST, ge=0)
    """What one active adapter costs, in units of one adapter's full retention."""
    weights: Literal["uniform", "traffic"] = "uniform"
    """What an adapter's retention weighs in the score of a plan. uniform: all weigh the same. traffic: each by its
    share of the requests that were answered lately, so that a loss counts by how many feel it. An adapter that hardly
    anybody asks for weighs next to nothing: a merge that saves a module is then worth any loss that passes
    `target_retention`, which no weight lowers."""
    traffic_window_seconds: float = Field(86400.0, gt=0)
    """How far back requests count: a day, so that quiet and busy hours weigh together. It moves on in 24 steps, and
    weights change with these only, so new traffic counts after an hour."""
    hysteresis: float = Field(MIN_IMPROVEMENT, ge=0)
    """By how much a new plan's score must beat the running one's to pay for a swap; and what a measurement must be
    expected to add."""
    protected_domains: tuple[str, ...] = ("safety",)
    """Adapters of these domains are never merged."""
    max_group_size: int = Field(5, ge=2)
    """Most members of a merged module."""
    max_trials: int = Field(2, ge=0)
    """Groups built and measured in one tick."""
    max_exploration: int = Field(2, ge=0)
    """Of those, groups whose bound does not pass, but that are likely enough to: each is a label where they are few."""
    predictor: str = "default"
    """Folder of a fitted predictor (`mergeprobe fit`); "default" is the one that is shipped, "none" plans without
    forecasts: then weights alone say what to measure first."""
    recipes: tuple[tuple[str, str], ...] = Field(
        (("mean", "none"), ("mean", "mean_source"), ("ta", "none")), min_length=1
    )
    """(operator, norm rule) that a group may be merged by. With forecasts the most promising are measured, without them
    the first ones, in this order; three of them on any group, because each looks at the same gate rows."""

    @field_validator("recipes")
    @classmethod
    def _known_recipes(cls, recipes: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        from probe.operators import OPERATORS, Norm  # imports torch, which the commands that only speak HTTP do without

        for operator, norm in recipes:
            if operator not in OPERATORS or norm not in get_args(Norm):
                known = f"operators are {', '.join(OPERATORS)}; norm rules are {', '.join(get_args(Norm))}"
                raise ValueError(f"the recipe ({operator}, {norm}) is unknown: {known}")
        return recipes


class VerifyConfig(Section):
    """How a loaded module is checked before it serves anybody."""

    reference: bool = True
    """Compare with transformers+PEFT on the CPU; switch off for bases too large to load there."""
    num_reference_rows: int = Field(4, ge=1)
    reference_tolerance_nats: float = Field(0.05, gt=0)
    """Largest difference of mean answer log-likelihood, engine against reference (float32 agrees to about 1e-4)."""
    max_concurrent_rows: int = Field(4, ge=1)
    """Evaluation rows in the engine at once. Every one lengthens the steps that clients' tokens wait for."""


class ControllerConfig(Section):
    """The controller's clockwork."""

    interval_seconds: float = Field(60.0, gt=0)
    """Timer between ticks."""
    debounce_seconds: float = Field(2.0, ge=0)
    """Quiet time after the last registration before a tick starts."""
    recheck_interval_seconds: float = Field(3600.0, gt=0)
    """How long a serving merged module goes unmeasured: then its gate rows are asked again, one module at a time and
    while no request runs, at the latest after twice the time. What this finds (a changed engine or file, new rows of a
    member) is rare, and an hour keeps the engine free for clients."""


class IntakeConfig(Section):
    """What a registration may bring, and from where."""

    roots: tuple[Path, ...] = ()
    """Folders that local sources must lie in; empty refuses every local path."""
    max_adapter_bytes: int = Field(2 << 30, ge=1)
    max_calibration_rows: int = Field(256, ge=1)
    max_evaluation_rows: int = Field(2000, ge=1)


class Config(Section):
    """Everything that a running bank needs to know."""

    base: BaseModelConfig = BaseModelConfig()
    server: ServerConfig = ServerConfig()
    engine: EngineConfig = EngineConfig()
    policy: PolicyConfig = PolicyConfig()
    merge: MergeConfig = MergeConfig()
    signals: SignalsConfig = SignalsConfig()
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

    @model_validator(mode="after")
    def _data_for_recipes(self) -> Config:
        for operator, needed in self._data_of_recipes().items():
            if not self.signals.calibrate:
                raise ValueError(
                    f"policy.recipes: operator {operator} reads the {needed}, which is not collected while "
                    "signals.calibrate is off; switch it on, or use an operator without such needs"
                )
        return self

    @property
    def reads_signals(self) -> bool:
        """Whether an operator that may merge reads signals of its members, forecasts apart."""
        return bool(self._data_of_recipes())

    def _data_of_recipes(self) -> dict[str, str]:
        """Return operator -> what it reads beside the weights, for those of the recipes that read anything."""
        if "recipes" not in self.policy.model_fields_set:
            return {}  # the defaults read nothing, and to look would import torch
        from probe.operators import OPERATORS

        rows = {operator: OPERATORS[operator] for operator, _ in self.policy.recipes}
        return {operator: " and ".join(sorted(row.needs)) for operator, row in rows.items() if row.needs}

    @property
    def registry(self) -> str:
        """The registry's SQLAlchemy URL."""
        return self.registry_url or f"sqlite:///{self.state.resolve() / 'registry.db'}"

    @property
    def store(self) -> Path:
        """Folder of the content-addressed store."""
        return self.state.resolve() / "store"

    @property
    def traffic_file(self) -> Path:
        """File of the requests in the window; without it the window begins anew."""
        return self.state.resolve() / "traffic.json"

    @property
    def signals_folder(self) -> Path:
        """Folder of measured signals; what is missing there is measured again."""
        return self.state.resolve() / "signals"


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
