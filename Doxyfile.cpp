# The reference of the C++ header, which scripts/docs puts into the book. A warning is a failure.
@INCLUDE = Doxyfile
PROJECT_NAME = "alluxio-membership for C++"
INPUT = include/alluxio_membership.hpp
HTML_OUTPUT = html-cpp
# The sentence of a function explains its parameters.
WARN_NO_PARAMDOC = NO
OPTIMIZE_OUTPUT_FOR_C = NO
TYPEDEF_HIDES_STRUCT = NO
PREDEFINED =
