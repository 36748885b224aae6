"""InfraValidator: does the real model server answer what the model computes?"""
