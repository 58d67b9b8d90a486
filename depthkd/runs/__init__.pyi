from .student import TrainedDepth as TrainedDepth
from .student import load_student as load_student
