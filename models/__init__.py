"""What --model reads, what the commands write, and a model on Paddle Inference."""
