import pytest

import flywheel


@pytest.mark.gpu
def test_the_tiny_run_finishes_on_a_gpu(tmp_path):
    config = {"recipe": "mnist", "debug": "tiny", "log": "quiet", "runs_dir": str(tmp_path)}
    run = flywheel.run({**config, "trainer.accelerator": "gpu"})
    assert run.status().json()["state"] == "finished"
    assert run.verify().first_bad is None
