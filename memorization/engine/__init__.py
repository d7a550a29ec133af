"""Lightning: the training, the recovery, what watches them, the hardware, and how work is interrupted and goes on."""
