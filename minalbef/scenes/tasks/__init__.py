"""The tasks on the embedded scenes, one file each: problems as records, test sets, baselines.

A file is named as its task is, in minalbef/tasks/, and ends with its SceneTask, SCENES.
"""
