/* SPDX-License-Identifier: MIT */
/* The verbs of the command line: each as main() would be called, argv[0] the verb. */
#ifndef AF_CLI_H
#define AF_CLI_H

int cmd_map(int argc, char **argv);

#endif
