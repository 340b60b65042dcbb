"""Minutes of the longest files, so that they start first.

A last long one would leave the other processes idle.
"""

LONG_FILES = {
    "16_your_data.ipynb": 3, "08_pretrain.ipynb": 2, "05_teacher.ipynb": 2,
    "02_image_encoder.ipynb": 1.8, "test_blanks.py": 1.7, "test_scene_finetune.py": 1.6,
    "test_kills.py": 1.6, "test_train.py": 1.3, "test_silent.py": 1.2, "test_set_finetune.py": 0.9,
    "04_align.ipynb": 0.8, "11_vqa.ipynb": 0.8, "15_scale.ipynb": 0.8, "test_mine.py": 0.8,
}
