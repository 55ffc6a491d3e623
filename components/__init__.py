"""One component resource a file: what an environment is made of.

Type tokens are `ancla:<module>:<Class>`. They are an API: a changed one needs an alias.
"""
