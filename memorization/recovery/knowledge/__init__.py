"""What a method may know of the operator: the truth, or an estimate that is renewed as the image takes shape."""
