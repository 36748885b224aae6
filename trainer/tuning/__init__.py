"""The search for hyper-parameters: Keras Tuner around the meta-training loop.

Keras Tuner is bound to Keras 3 and this project, through TFRS, to Keras 2; so
a trial is not a Keras model to be fitted but a call of the meta-training loop,
judged on meta_valid.
"""
