"""An update of ours and of torch, as the benchmarks run both."""

BATCH = 16
RATE, MOMENTUM, WEIGHT_DECAY = 0.0002, 0.9, 2e-4
KEPT_MEMORY = {  # glibc's words for what common/paddle_setup.py does
    'MALLOC_MMAP_MAX_': '0',
    'MALLOC_TRIM_THRESHOLD_': str(2**31 - 1),
    'MALLOC_TOP_PAD_': str(2**28),
}


def our_trainer(tensors, config, freeze=None):
    """(network, what makes an update of a batch and returns its loss), of train.py's parts."""
    import common.paddle_setup  # noqa: F401 - before Paddle

    from models import model_io
    from training import step
    from training.solver import SGD

    network = model_io.build_network(tensors, config, 0.0)
    trained = step.trained_parameters(network, freeze)
    solver = SGD(trained, MOMENTUM, WEIGHT_DECAY)
    learner = step.Learner(network, after=freeze)
    return (
        network,
        lambda batch: step.train_step(learner, solver, [batch], RATE).loss,
    )


def torch_trainer(path, threads):
    """(network, what makes an update of images and labels and returns its loss), as in torch."""
    import torch
    from torch_network import TorchSqueezeNet, channels_last

    torch.set_num_threads(threads)
    network = TorchSqueezeNet(path).train()
    solver = torch.optim.SGD(
        network.parameters(), RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )

    def update(images, labels):
        images, labels = channels_last(torch.as_tensor(images)), torch.as_tensor(labels)
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        solver.zero_grad()
        loss.backward()
        solver.step()
        return loss.item()

    return network, update
