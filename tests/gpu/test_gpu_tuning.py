import pytest

import flywheel

LR = {"low": 1e-4, "high": 0.1, "log": True}


@pytest.mark.gpu
@pytest.mark.parametrize("trials", [1, 3])
def test_trials_are_made_on_a_gpu_and_may_become_the_start(trials, tmp_path):
    tuner = {
        "tuner": "random",
        "tuner.trials": trials,
        "tuner.rungs": [0.5],
        "tuner.start": "trial",
        "tuner.margin": 0,
    }
    config = {"recipe": "mnist", "debug": "tiny", "log": "quiet", "runs_dir": str(tmp_path), **tuner}
    run = flywheel.run({**config, "tune.space.lr": LR, "trainer.accelerator": "gpu", "generations": 1})
    assert run.status().json()["state"] == "finished"
    shown = run.show(1)
    assert [result.failure for result in shown.trials] == [None] * trials
    assert all(len(result.rungs) == 1 for result in shown.trials)
    assert trials > 1 or shown.init.init == "trial", "of several it depends on scores"
    assert run.verify().first_bad is None
