/* SPDX-License-Identifier: MIT */
/* Names in rustc's v0 mangled symbols (RFC 2603), as far as impl blocks need them. */
#ifndef AF_ANALYSIS_MANGLING_H
#define AF_ANALYSIS_MANGLING_H

#include "analysis/text.h"

/*
 * If the symbol ("_R...") is of something in an impl block, appends what that block is for, as
 * legacy symbols say it: "a::Sender<T>", or "<a::Db as a::Store>". Else, and where the symbol is
 * broken, false, and `text` is as it was.
 */
bool af_mangling_v0_impl(const char *symbol, struct af_text *text);

#endif
