from .named_models import load_model as load_model
from .student import TrainedDepth as TrainedDepth
from .student import load_student as load_student
