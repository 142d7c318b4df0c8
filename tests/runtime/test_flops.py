"""What a fit costs, against what its matrix products come to by hand, or by counting each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from flywheel.runtime import flops
from flywheel.runtime.flops import FlopCount

WIDTH = 8


class Net(lightning.LightningModule):
    """A layer, and an optimizer that multiplies matrices as Muon does."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.fails_at = fails_at

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if batch_idx == self.fails_at:
            raise RuntimeError("a step of the user's own")
        return self.layer(batch["x"]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        _ = self.layer.weight.detach() @ self.layer.weight.detach()


def counted(batches: list[int], **trainer: Any) -> FlopCount:
    """A fit on batches of so many rows."""
    steps: list[float] = []
    count = FlopCount(steps.append)
    loader = DataLoader([{"x": torch.ones(rows, WIDTH)} for rows in batches], batch_size=None)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options |= {"enable_checkpointing": False, "max_epochs": 1, "accelerator": "cpu"}
    lightning.Trainer(**options | trainer, callbacks=[count]).fit(Net(), loader)
    assert count.flops == sum(steps)
    return count


def by_hand(rows: int, *, steps: int = 1) -> int:
    """2 a multiplication and addition: forward, the weights' gradient, and the optimizer's product."""
    return 2 * 2 * rows * WIDTH * WIDTH + steps * 2 * WIDTH**3


def test_a_fit_costs_its_matrix_products() -> None:
    assert counted([4, 4, 2]).flops == 2 * by_hand(4) + by_hand(2)


def test_batches_of_the_same_shapes_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    enter = flops._Count.__enter__
    monkeypatch.setattr(flops._Count, "__enter__", lambda self: (entered.append(1), enter(self))[1])
    assert counted([4, 2] * 10).flops == 10 * (by_hand(4) + by_hand(2))
    assert len(entered) == 2


def test_of_changing_shapes_few_are_counted_and_the_others_lie_on_their_line() -> None:
    batches = [3 + 7 * k % 101 for k in range(70)]
    assert len(set(batches)) == 70
    count = counted(batches)
    assert len(count._known) == 4
    assert count.flops == pytest.approx(sum(map(by_hand, batches)), rel=1e-9)


def test_what_the_optimizer_does_is_counted_where_it_steps() -> None:
    count = counted([4] * 6, accumulate_grad_batches=2)
    assert count.flops == 6 * by_hand(4, steps=0) + 3 * by_hand(0)


def test_attention_on_a_cpu_is_counted() -> None:
    """Torch's counter leaves it out there."""
    tensors = [torch.randn(2, 4, 16, 8, requires_grad=True) for _ in range(3)]
    with FlopCounterMode(display=False) as torchs, flops._Count() as ours:
        torch.nn.functional.scaled_dot_product_attention(*tensors).sum().backward()
    products = 2 * (2 * 4) * 16 * 16 * 8
    assert ours.flops == 7 * products, "2 forward, 5 backward, of which one recomputes"
    assert torchs.get_total_flops() in (0, ours.flops)


def test_a_step_that_raises_leaves_no_mode_behind(tmp_path: Path) -> None:
    count = FlopCount(lambda _: None)
    loader = DataLoader([{"x": torch.ones(2, WIDTH)}], batch_size=None)
    trainer = lightning.Trainer(
        logger=False, enable_progress_bar=False, enable_checkpointing=False, accelerator="cpu",
        max_epochs=1, callbacks=[count], default_root_dir=tmp_path, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="of the user's own"):
        trainer.fit(Net(fails_at=0), loader)
    assert torch._C._len_torch_dispatch_stack() == 0
    assert count.flops == 0


@pytest.mark.parametrize(
    ("batch", "shapes"),
    [
        (torch.ones(2, 3), [(2, 3)]),
        ([(torch.ones(2), {"y": torch.ones(1, 4)})], [(2,), (1, 4)]),
        ("a text", []),
    ],
)
def test_the_tensors_of_a_batch_are_found(batch: Any, shapes: list[tuple[int, ...]]) -> None:
    assert [tuple(tensor.shape) for tensor in flops._tensors(batch)] == shapes
