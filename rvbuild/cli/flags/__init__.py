"""The flags of commands, with Make's letters: each command parses its words and calls one function of `commands`.

Modules are by what commands are about. All commands of `COMMANDS` of a module are part of `rvbuild`.
"""
