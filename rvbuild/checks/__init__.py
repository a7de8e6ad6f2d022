"""Checks before work: what can be found wrong with the files of a project before any stage runs.

`scene` opens the files of one scene, in a worker; `project` compares what was found of all scenes; `resources` compares
what a build needs with what there is. All but `scene` know no pixels.
"""
