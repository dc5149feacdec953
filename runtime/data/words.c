/* runtime/data/words.c: see words.h. */
#include "runtime/data/words.h"
#include "support/vec.h"

#include <string.h>
#include <xxhash.h>

/* The word's slot, or the free one where it would go. */
static u32 place(const Words *w, Str text, u64 hash)
{
	u32 at = (u32)hash & (w->nslot - 1);
	for (; w->slot[at]; at = (at + 1) & (w->nslot - 1)) {
		const Word *have = &w->word[w->slot[at] - 1];
		if (have->hash == hash && have->text.n == text.n &&
		    !memcmp(have->text.s, text.s, text.n))
			break;
	}
	return at;
}

Word *words_find(const Words *w, Str text)
{
	if (!w->nslot)
		return NULL;
	u32 index = w->slot[place(w, text, XXH3_64bits(text.s, text.n))];
	return index ? &w->word[index - 1] : NULL;
}

Word *words_add(Words *w, Str text)
{
	if (w->n * 2 >= w->nslot) {
		w->nslot = w->nslot ? w->nslot * 2 : 256;
		w->slot = NEWN(w->arena, u32, w->nslot);
		for (u32 i = 0; i < w->n; i++) {
			u32 at = (u32)w->word[i].hash & (w->nslot - 1);
			while (w->slot[at])
				at = (at + 1) & (w->nslot - 1);
			w->slot[at] = i + 1;
		}
	}
	u64 hash = XXH3_64bits(text.s, text.n);
	u32 at = place(w, text, hash);
	if (!w->slot[at]) {
		if (w->n == w->cap)
			w->word = vec_grow(w->arena, w->word, w->n, &w->cap, sizeof *w->word);
		char *copy = arena_push(w->arena, 1, text.n + 1, 1);
		memcpy(copy, text.s, text.n);
		w->word[w->n++] = (Word){ .hash = hash, .text = { copy, text.n } };
		w->slot[at] = w->n;
	}
	return &w->word[w->slot[at] - 1];
}
