"""What a running training tells: a Trainer callback, and the bundle of early checkpoints that it writes.

Read in this order: `callback` (what the Trainer calls), `recorder` (what is written when), `bundle` (the schema),
`trained_lora` (the adapter inside the model), `step_losses` and `losses`.
"""
