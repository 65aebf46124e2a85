"""The training methods: one readable file each, over trl. The only place that imports trl."""
