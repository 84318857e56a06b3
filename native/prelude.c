#include "frames.h"
#include "inject.h"
