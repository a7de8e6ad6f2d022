"""Checks before work: problems with the files of a project that can be found before any stage runs.

`scene` opens the files of a scene, in a worker; `project` compares the results of all scenes; `resources` compares
the requirements of a build with the machine. Only `scene` accesses pixels.
"""
