"""A model as the directory of Paddle Inference: inference.json (or .pdmodel), inference.pdiparams.

Input `images` float32 [N, 3, crop, crop] as the network takes it, output the logits; config.json
beside them says how pictures become that. Paddle writes the older .pdmodel, which Paddle Lite's
converter and Paddle Serving want, where it is started with FLAGS_enable_pir_api=0.
"""

from pathlib import Path

import numpy as np
from paddle import inference

from common.files import write_together
from models.inference import program_suffix
from network.config import config_text

NAME = 'inference'  # as PaddleClas and Paddle's servers call it


def files():
    """Names of the network's file and the parameters' file in such a directory."""
    return f'{NAME}{program_suffix()}', f'{NAME}.pdiparams'


def write(directory, program, config):
    """Write a models.inference.Program: all three files or none. Returns their names."""
    network, weights = files()
    contents = {
        'config.json': config_text(config).encode(),
        weights: program.parameters,
        network: program.network,
    }
    write_together({Path(directory) / name: content for name, content in contents.items()})
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
