/* Oriel: runs other operating systems in a window. */
#include "app/commands.h"

int main(int argc, char **argv)
{
  return oriel_main(argc, argv);
}
