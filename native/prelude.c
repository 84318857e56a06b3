#include "frames.h"
#include "inject.h"
#include "sweep.h"
#include "bulk.h"
