"""infer.py run in this process, and what it says when it fails."""

import infer


def run(*arguments):
    """The command in this process: its exit status."""
    return infer.main([str(argument) for argument in arguments])


def one_error_line(capsys):
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'Traceback' not in error
    return error
