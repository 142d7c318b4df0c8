import pytest

import flywheel

LR = {"low": 1e-4, "high": 0.1, "log": True}


@pytest.mark.gpu
def test_trials_are_made_on_a_gpu_and_may_become_the_start(tmp_path):
    tuner = {
        "tuner": "random",
        "tuner.trials": 3,
        "tuner.rungs": [0.5],
        "tuner.start": "trial",
        "tuner.margin": 0,
    }
    config = {"recipe": "mnist", "debug": "tiny", "log": "quiet", "runs_dir": str(tmp_path), **tuner}
    run = flywheel.run({**config, "tune.space.lr": LR, "trainer.accelerator": "gpu", "generations": 1})
    assert run.status().json()["state"] == "finished"
    shown = run.show(1)
    assert [result.failure for result in shown.trials] == [None] * 3
    assert all(len(result.rungs) == 1 for result in shown.trials)
    assert shown.init.init == "trial"
    assert run.verify().first_bad is None
