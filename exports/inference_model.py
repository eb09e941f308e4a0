"""A model as the directory of Paddle Inference: inference.json (or .pdmodel), inference.pdiparams.

Input `images` float32 [N, 3, crop, crop] as the network takes it, output the logits; config.json
beside them says how pictures become that. Paddle writes the older .pdmodel, which Paddle Lite's
converter and Paddle Serving want, where it is started with FLAGS_enable_pir_api=0.
"""

import json
from pathlib import Path

import numpy as np
from paddle import inference

from common.files import atomic_write
from models.inference import program_suffix

NAME = 'inference'  # as PaddleClas and Paddle's servers call it


def files():
    """Names of the network's file and the parameters' file in such a directory."""
    return f'{NAME}{program_suffix()}', f'{NAME}.pdiparams'


def write(directory, program, config):
    """Write a models.inference.Program: all three files or none. Returns their names."""
    network, weights = files()
    text = json.dumps(config, indent=2, ensure_ascii=False) + '\n'
    with (
        atomic_write(Path(directory) / 'config.json', 'w') as config_file,
        atomic_write(Path(directory) / weights) as weights_file,
        atomic_write(Path(directory) / network) as network_file,
    ):
        config_file.write(text)
        weights_file.write(program.parameters)
        network_file.write(program.network)
        for file in (config_file, weights_file, network_file):
            file.flush()  # a full disk shows here, before any file is replaced
    return network, weights, 'config.json'


def run(directory, images):
    """What Paddle Inference makes of float32 images [N, 3, crop, crop] with those files: logits."""
    settings = inference.Config(*(str(Path(directory) / name) for name in files()))
    settings.disable_gpu()
    settings.disable_glog_info()
    predictor = inference.create_predictor(settings)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    source.copy_from_cpu(np.ascontiguousarray(images))
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
