"""What a network says of pictures, and how good that is: predictions, metrics, verification."""
