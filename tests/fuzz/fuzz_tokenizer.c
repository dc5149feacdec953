/* tests/fuzz/fuzz_tokenizer.c: any bytes at all as a tokenizer's file: a tokenizer.json, a SentencePiece model, or a vocabulary
 * of lines (the first byte says which). What is accepted must encode texts to ids that it has, and decode them; what is
 * refused must say why. */
#include "runtime/data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void use(Arena *a, Tokenizer *t)
{
	static const Str texts[] = { STR("The rivers\xe2\x80\x99 sea,  won't \xd0\xbc\xd0\xbe\xd1\x80\xd0\xb5 12 \xf0\x9f\x8c\x8a\r\n\t"),
				     STR("[CLS]</s>e\xcc\x81\xef\xbc\xa1 \xe6\xb5\xb7<mask>"), STR(" "), STR("") };
	for (size_t i = 0; i < COUNT(texts); i++) {
		Tokens ids = { .arena = a }, types = { .arena = a };
		Status s = tokenizer_input(t, texts[i], &texts[0], &ids, &types);
		must(s || ids.n == types.n);
		if (!s)
			s = tokenizer_encode(t, texts[i], &ids);
		must(!s || s->text[0]);
		for (size_t k = 0; k < ids.n; k++)
			must(ids.v[k] < t->vocabulary);
		Buf b = { .arena = a };
		must(!tokenizer_decode(t, ids.v, ids.n, &b));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const path[] = { "input.json", "input.model", "input.txt" };
	Arena a = ARENA("fuzz");
	Tokenizer *t;
	u32 kind = size ? data[0] : 0;
	kind = kind < COUNT(path) ? kind : 0;
	/* a JSON file may come without the byte that says so, as it is */
	bool marked = size && data[0] < COUNT(path);
	Status why = tokenizer_parse(&a, path[kind], (Str){ (const char *)data + marked, size - marked }, &t);
	if (why) {
		must(strstr(why->text, "input") != NULL);
	} else {
		use(&a, t);
		tokenizer_close(t);
	}
	arena_free(&a);
	return 0;
}
