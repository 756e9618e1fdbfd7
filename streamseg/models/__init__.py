"""The SOLO family: what a model is made of, its networks, its files.

``spec`` describes a model, ``nets`` builds it, ``postprocess`` makes instances of its output.
``weights`` reads and writes files, ``convert`` takes checkpoints of others, ``onnx`` exports; ``input_size``
holds the sizes of the network's input, ``resnets`` the table of ResNets.
"""
