"""The pictures that a network is compressed on."""

from pathlib import Path

import pytest

from quantisation import calibration_data


@pytest.mark.parametrize(('kilobytes', 'size', 'most'), [(13 * 1024 * 200, 227, 200), (9, 227, 50)])
def test_crops_are_as_many_as_the_free_memory_holds(monkeypatch, kilobytes, size, most):
    text = f'MemTotal: 99999999 kB\nMemAvailable:   {kilobytes} kB\n'
    monkeypatch.setattr(Path, 'read_text', lambda *_, **__: text)
    assert calibration_data._most_crops(size) == most


def test_other_systems_get_all_crops(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, 'read_text', missing)
    assert calibration_data._most_crops(227) == calibration_data.CROPS
