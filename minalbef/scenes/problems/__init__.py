"""Problems of the five tasks on embedded scenes: what is asked, and its answer."""
