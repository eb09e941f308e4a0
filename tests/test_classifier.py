"""infer.py from Python: its Classifier takes every kind of picture and answers as the command."""

import json
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from conftest import CAT, COFFEE, ROOT
from inferring import run
from PIL import Image

import infer
from pictures.decoding import PictureError


def test_classifier_takes_every_kind_of_picture(three_classes, tmp_path):
    classify = infer.Classifier(three_classes)
    output = tmp_path / 'out.json'
    assert run('--model', three_classes, CAT, '--output', output) == 0
    top = json.loads(output.read_text(encoding='utf-8'))['pictures'][0]['top']
    expected = classify(CAT)
    assert [name for name, _ in expected] == [guess['name'] for guess in top]
    close = pytest.approx([guess['probability'] for guess in top], abs=1e-6)  # NumPy's
    assert [probability for _, probability in expected] == close
    with Image.open(CAT) as opened:
        kinds = [CAT, str(CAT), CAT.read_bytes(), cv2.imread(str(CAT)), opened]
        assert [classify(kind) for kind in kinds] == [expected] * 5
        assert classify(kinds) == [expected] * 5
    assert classify([]) == []
    assert classify([COFFEE])[0] == classify(COFFEE) != expected


def test_classifier_decodes_big_files_and_bytes_at_a_reduced_scale(three_classes, tmp_path):
    path = tmp_path / 'big.jpg'
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(COFFEE)), (1300, 1200)))
    full, fast = (infer.Classifier(three_classes, fast_decode=on) for on in (False, True))
    assert full(path) != fast(path) == fast(path.read_bytes())
    assert full(CAT) == fast(CAT)


def test_classifier_names_what_is_no_picture(three_classes, tmp_path):
    classify = infer.Classifier(three_classes)
    for wrong, words in [
        (tmp_path / 'missing.jpg', 'missing.jpg: No such file'),
        (b'no picture', 'cannot decode'),
        (np.zeros((300, 300), np.uint8), r'uint8 \[300, 300\]; it must be uint8'),
        (np.zeros((300, 300, 3)), 'float64'),
        (7, 'cannot be made of int'),
    ]:
        with pytest.raises(PictureError, match=words):
            classify(wrong)


def test_classifier_serves_several_threads(three_classes):
    classify = infer.Classifier(three_classes)
    expected = [classify(CAT), classify(COFFEE)]
    found = [None] * 8

    def ask(n):
        found[n] = [classify((CAT, COFFEE)[(n + k) % 2]) for k in range(6)]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[expected[(n + k) % 2] for k in range(6)] for n in range(8)]


def test_importing_infer_leaves_the_programs_signals_alone(tmp_path):
    code = 'import signal, infer; print(signal.getsignal(signal.SIGINT).__name__)'
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ('default_int_handler\n', '')
