/* SPDX-License-Identifier: MIT */
/*
 * Reads v0 symbols, one a line, and writes what the impl block of each is for, or "-".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/mangling.h"

int main(void)
{
	char *line = NULL;
	size_t capacity = 0;

	while (getline(&line, &capacity, stdin) > 0) {
		struct af_text text = {0};
		line[strcspn(line, "\n")] = '\0';
		puts(af_mangling_v0_impl(line, &text) ? af_text_get(&text) : "-");
		af_text_deinit(&text);
	}
	free(line);
	return 0;
}
