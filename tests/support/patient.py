"""``python -m flywheel`` that waits a minute for trackers at its end: on a busy machine W&B starts slowly."""

from flywheel.__main__ import main
from flywheel.trackers import queued

if __name__ == "__main__":
    queued.CLOSE_SECONDS = 60.0
    main()
