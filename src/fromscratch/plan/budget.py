"""Hours and money: what a run takes on given devices, and what to change so that it fits.

In: the run's size (`Work`), how fast a device trains it (`Speed`), what there is to spend
(`Limits`). Out: a `Budget`, whose proposals can be typed as they are. All of it is arithmetic on
stated numbers: the speed is an assumed share of a data sheet's peak until `bench` has measured it,
and several devices are taken to be as many times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fromscratch.foundation.accelerators import ACCELERATORS, Accelerator
from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters, flops_per_token
from fromscratch.optim.config import OptimConfig
from fromscratch.plan.compute import chinchilla_tokens, precision_on, tokens_per_second
from fromscratch.plan.memory import largest_micro_batch

_FORWARD_SHARE = 1 / 3
"""Of a training step's arithmetic: validation has no backward pass, which is twice the forward."""


@dataclass(frozen=True)
class Work:
    """What a run computes.

    Attributes:
        model: Shape.
        steps: Updates.
        tokens_per_step: Of the global batch.
        eval_every: Steps between validations; 0 for the start and the end only.
        eval_tokens: Targets of a validation.
    """

    model: ModelConfig
    steps: int
    tokens_per_step: int
    eval_every: int
    eval_tokens: int

    @property
    def tokens(self) -> int:
        """Trained on."""
        return self.steps * self.tokens_per_step

    @property
    def validations(self) -> int:
        """At the start, on schedule, and at the end."""
        if not self.eval_every:
            return 2
        return 1 + self.steps // self.eval_every + bool(self.steps % self.eval_every)

    @property
    def trained_equivalent(self) -> float:
        """Tokens whose training takes as long as the whole run, validation included."""
        return self.tokens + self.validations * self.eval_tokens * _FORWARD_SHARE

    @property
    def validation_share(self) -> float:
        """Of the run's time."""
        return 1 - self.tokens / self.trained_equivalent


@dataclass(frozen=True)
class Speed:
    """How fast one device trains a model.

    Attributes:
        device: What people call it.
        tokens_per_s: Trained tokens a second of the model at hand.
        basis: Where the number comes from, in words.
        price: Dollars an hour; None where it costs nothing, or nobody knows.
        memory_bytes: On the device; None where it does not matter.
        half: Whether products run in 16 bits.
    """

    device: str
    tokens_per_s: float
    basis: str
    price: float | None = None
    memory_bytes: int | None = None
    half: bool = True

    def for_model(self, before: ModelConfig, model: ModelConfig) -> Speed:
        """The same device on another model: the same arithmetic a second."""
        factor = flops_per_token(before) / flops_per_token(model)
        return replace(self, tokens_per_s=self.tokens_per_s * factor)


@dataclass(frozen=True)
class Limits:
    """What there is to spend; None for no limit."""

    hours: float | None = None
    dollars: float | None = None

    def hours_on(self, speed: Speed, gpus: int) -> float | None:
        """The stricter limit, in hours on so many devices."""
        bounds = [] if self.hours is None else [self.hours]
        if self.dollars is not None and speed.price:
            bounds.append(self.dollars / (speed.price * gpus))
        return min(bounds, default=None)


@dataclass(frozen=True)
class Proposal:
    """One way to make a run fit.

    Attributes:
        kind: `shorter`, `smaller`, `gpus` or `other_gpu`.
        sentence: What it is, for a person.
        overrides: What to add to the command; none for another device.
        hours: That the run takes then.
        cost: In dollars; None without a price.
    """

    kind: str
    sentence: str
    overrides: list[str]
    hours: float
    cost: float | None


@dataclass(frozen=True)
class Budget:
    """What a run takes on so many devices of one kind.

    Attributes:
        device: What people call it.
        gpus: How many.
        basis: Where the speed comes from.
        tokens_per_s: Of all together.
        hours: Of the run, validation included.
        cost: In dollars; None without a price.
        price: Dollars an hour and device.
        validation_share: Of the hours.
        limit_hours: The stricter limit; None without any.
        fits: Whether the run is within it.
        micro_batches: The largest that fits, by what is changed to save memory; None: not even 1.
        proposals: What else would fit, where this does not.
    """

    device: str
    gpus: int
    basis: str
    tokens_per_s: float
    hours: float
    cost: float | None
    price: float | None
    validation_share: float
    limit_hours: float | None
    fits: bool
    micro_batches: dict[str, int | None]
    proposals: list[Proposal]


def make_budget(
    work: Work,
    speed: Speed,
    limits: Limits,
    *,
    gpus: int = 1,
    optim: OptimConfig,
    candidates: Sequence[int],
    mfu: float,
    precision: str,
) -> Budget:
    """Computes what a run takes, and what to change where that is too much.

    Args:
        work: The run.
        speed: Of one device on its model.
        limits: What there is to spend.
        gpus: Devices that share the work.
        optim: For the memory of a step.
        candidates: Micro-batches that divide a step.
        mfu: Share of the peak that other devices are taken to reach.
        precision: The recipe's `train.precision`, for other devices.
    """
    limit = limits.hours_on(speed, gpus)
    hours = _hours(work, speed, gpus)
    fits = limit is None or hours <= limit
    proposals: list[Proposal] = []
    if not fits:
        assert limit is not None
        found = [
            _shorter(work, speed, limit, gpus),
            _smaller(work, speed, limit, gpus),
            _more_devices(work, speed, limits, gpus),
        ]
        proposals = [proposal for proposal in found if proposal is not None]
        proposals += _others(work, speed, limits, gpus, optim, mfu=mfu, precision=precision)
    return Budget(
        device=speed.device,
        gpus=gpus,
        basis=speed.basis,
        tokens_per_s=gpus * speed.tokens_per_s,
        hours=hours,
        cost=_cost(hours, speed, gpus),
        price=speed.price,
        validation_share=work.validation_share,
        limit_hours=limit,
        fits=fits,
        micro_batches={}
        if speed.memory_bytes is None
        else micro_batches(work.model, optim, candidates, speed.memory_bytes, half=speed.half),
        proposals=proposals,
    )


def micro_batches(
    model: ModelConfig,
    optim: OptimConfig,
    candidates: Sequence[int],
    memory_bytes: int,
    *,
    half: bool,
) -> dict[str, int | None]:
    """The largest micro-batch by the estimate, by what is changed to save memory."""
    variants = {"as it is": (optim, False), "activation checkpointing": (optim, True)}
    if optim.name == "adamw":  # instead of Muon it would be another run
        eight_bit = optim.model_copy(update={"name": "adamw8bit"})
        variants |= {"8-bit AdamW": (eight_bit, False), "both": (eight_bit, True)}
    return {
        name: largest_micro_batch(
            model,
            variant,
            candidates,
            memory_bytes=memory_bytes,
            half=half,
            activation_checkpointing=again,
        )
        for name, (variant, again) in variants.items()
    }


def _hours(work: Work, speed: Speed, gpus: int) -> float:
    return work.trained_equivalent / (gpus * speed.tokens_per_s) / 3600


def _cost(hours: float, speed: Speed, gpus: int) -> float | None:
    return None if speed.price is None else hours * gpus * speed.price


def _shorter(work: Work, speed: Speed, limit: float, gpus: int) -> Proposal | None:
    """The most steps of the same model that fit."""
    low, high = 0, work.steps  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        fits = _hours(replace(work, steps=middle), speed, gpus) <= limit
        low, high = (middle, high) if fits else (low, middle)
    if not low:
        return None
    shorter = replace(work, steps=low)
    share = shorter.tokens / chinchilla_tokens(count_parameters(work.model).total)
    hours = _hours(shorter, speed, gpus)
    return Proposal(
        "shorter",
        f"{low:,} steps, {shorter.tokens:,} tokens: {share:.2g} of what the model deserves "
        "(Chinchilla)",
        [f"train.steps={low}"],
        hours,
        _cost(hours, speed, gpus),
    )


def _smaller(work: Work, speed: Speed, limit: float, gpus: int) -> Proposal | None:
    """The largest model of the same proportions that fits with the tokens it deserves."""
    whole = work.model
    for heads in range(whole.n_head, 0, -1):
        model = scaled(whole, heads)
        if model is None or model == whole:
            continue
        parameters = count_parameters(model).total
        steps = max(1, -(-chinchilla_tokens(parameters) // work.tokens_per_step))
        smaller = replace(work, model=model, steps=steps)
        hours = _hours(smaller, speed.for_model(whole, model), gpus)
        if hours > limit:
            continue
        shape = {
            name: getattr(model, name)
            for name in ("n_layer", "n_head", "n_kv_head", "d_model", "d_ff")
            if getattr(model, name) != getattr(whole, name)
        }
        if "n_kv_head" in shape and model.n_kv_head == model.n_head:
            del shape["n_kv_head"]  # it follows
        return Proposal(
            "smaller",
            f"a model of {parameters:,} parameters on the {smaller.tokens:,} tokens it deserves",
            [*(f"model.{name}={value}" for name, value in shape.items()), f"train.steps={steps}"],
            hours,
            _cost(hours, speed, gpus),
        )
    return None


def scaled(model: ModelConfig, heads: int) -> ModelConfig | None:
    """The model with another number of heads and all else in proportion; heads keep their size.

    The loss depends on the ratio of width to depth only weakly (Kaplan et al. 2020, figure 5), so
    the ratio is kept. None where the key/value heads do not come out even.
    """
    factor = heads / model.n_head
    key_heads = model.n_kv_head * factor
    if key_heads != int(key_heads):
        return None
    width = model.d_model * factor
    if width != int(width):
        return None
    multiple = 64 if model.d_ff % 64 == 0 else 8  # as friendly to matrix units as before
    return ModelConfig(
        **model.model_dump()
        | {
            "n_layer": max(1, round(model.n_layer * factor)),
            "n_head": heads,
            "n_kv_head": int(key_heads),
            "d_model": int(width),
            "d_ff": max(multiple, round(model.d_ff * factor / multiple) * multiple),
        }
    )


def _more_devices(work: Work, speed: Speed, limits: Limits, gpus: int) -> Proposal | None:
    """The fewest devices of the same kind that fit; money is not saved by them."""
    for more in (2, 3, 4, 6, 8):
        hours = _hours(work, speed, more)
        limit = limits.hours_on(speed, more)
        if more > gpus and limit is not None and hours <= limit:
            return Proposal(
                "gpus",
                f"{more} x {speed.device}, if they share the work without loss",
                [],
                hours,
                _cost(hours, speed, more),
            )
    return None


def _others(
    work: Work,
    speed: Speed,
    limits: Limits,
    gpus: int,
    optim: OptimConfig,
    *,
    mfu: float,
    precision: str,
) -> list[Proposal]:
    """The same number of another card: the cheapest three that fit, those without a price last."""
    found = []
    for card in ACCELERATORS:
        other = assumed_speed(card, work.model, precision=precision, mfu=mfu)
        hours = _hours(work, other, gpus)
        limit = limits.hours_on(other, gpus)
        unaffordable = limits.dollars is not None and other.price is None
        if card.name == speed.device or unaffordable or limit is None or hours > limit:
            continue
        fits = largest_micro_batch(
            work.model, optim, [1], memory_bytes=card.memory_bytes, half=other.half
        )
        if fits:
            cost = _cost(hours, other, gpus)
            count = f"{gpus} x " if gpus > 1 else ""
            found.append(Proposal("other_gpu", f"{count}{card.name}", [], hours, cost))
    return sorted(found, key=lambda p: (p.cost is None, p.cost or p.hours))[:3]


def assumed_speed(
    card: Accelerator, model: ModelConfig, *, precision: str, mfu: float, price: float | None = None
) -> Speed:
    """A card's speed at a share of its data sheet's peak."""
    computes_in = precision_on(card, precision)
    peak = card.flops(computes_in)
    assert peak is not None
    return Speed(
        device=card.name,
        tokens_per_s=tokens_per_second(card, computes_in, flops_per_token(model), mfu),
        basis=f"assumed: {mfu:.0%} of {peak / 1e12:g} TFLOP/s ({computes_in}, data sheet)",
        price=card.price if price is None else price,
        memory_bytes=card.memory_bytes,
        half=computes_in in ("bf16", "fp16"),
    )
