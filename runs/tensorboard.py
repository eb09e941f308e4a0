"""TensorBoard event files, for those who watch several runs: `train.py --tensorboard`.

tensorboardX writes them, since it is alive and needs no TensorFlow; VisualDL's last release is of
2023. It is optional: log.csv and curves.png say the same.
"""

from common.console import UserError


def check_available() -> None:
    """Raises UserError where tensorboardX is not installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise UserError('--tensorboard needs: pip install tensorboardX') from None


class Events:
    """Writes each epoch's row (see curves.write_log) into `folder`, where it is `wanted`."""

    def __init__(self, folder, wanted):
        self.writer = None
        if wanted:
            from tensorboardX import SummaryWriter

            self.writer = SummaryWriter(str(folder))

    def write(self, row):
        if self.writer is not None:
            for name, value in row.items():
                if value is not None and name not in ('epoch', 'iteration'):
                    self.writer.add_scalar(name, value, row['iteration'])
            self.writer.flush()
