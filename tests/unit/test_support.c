/* Units of support/: arenas, text, maps, diagnostics, files. */
#include "support/diag.h"
#include "support/io.h"
#include "support/map.h"
#include "support/vec.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void arena_releases_to_a_mark(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	int *first = NEWN(&a, int, 10);
	first[9] = 7;
	ArenaMark m = arena_mark(&a);
	for (int i = 0; i < 1000; i++) {
		u64 *p = NEWN(&a, u64, 100);
		assert_int_equal((uintptr_t)p % 8, 0);
		assert_int_equal(p[99], 0);
		p[99] = 1;
	}
	arena_release(&a, m);
	assert_int_equal(first[9], 7);
	assert_int_equal(a.used, 10 * sizeof(int));
	assert_true(a.peak >= 800000);
	assert_int_equal(NEWN(&a, u64, 4)[3], 0);
	arena_free(&a);
}

/* A mark from before the first chunk, and what one arena takes over from another: all stays where it is, and zeroed memory
 * is handed out though chunks were used before. */
static void arena_adopts_and_reuses(void **state)
{
	(void)state;
	for (u32 round = 0; round < 3; round++) {
		Arena to = ARENA("to"), from = ARENA("from");
		ArenaMark before = arena_mark(&to);
		u32 *first = NEWN(&to, u32, 5000), *dropped = NEWN(&to, u32, 100000);
		assert_int_equal(first[4999], 0);
		assert_int_equal(dropped[99999], 0);
		memset(dropped, 0xff, 100000 * sizeof *dropped);
		arena_release(&to, before);
		assert_int_equal(to.used, 0);
		u8 *kept = NEWN(&to, u8, 100);
		u32 *theirs = NEWN(&from, u32, 3000), *more = NEWN(&from, u32, 200000);
		for (u32 i = 0; i < 100; i++)
			assert_int_equal(kept[i], 0);
		memset(kept, 1, 100);
		theirs[2999] = 7;
		more[199999] = 8;
		size_t used = to.used + from.used;
		arena_adopt(&to, &from);
		assert_int_equal(to.used, used);
		assert_null(from.top);
		ArenaMark m = arena_mark(&to);
		memset(NEWN(&to, u8, 1 << 20), 2, 1 << 20);
		arena_release(&to, m);
		assert_int_equal(theirs[2999], 7);
		assert_int_equal(more[199999], 8);
		assert_int_equal(kept[99], 1);
		arena_free(&from);
		Arena empty = ARENA("empty");
		arena_adopt(&empty, &to);
		assert_int_equal(theirs[2999], 7);
		arena_free(&empty);
	}
}

static void text_is_interned_once(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Interner in = { .arena = &a };
	const char *x = intern_printf(&in, "h.%d.attn", 3);
	for (int i = 0; i < 500; i++)
		intern_printf(&in, "h.%d.attn", i);
	assert_ptr_equal(x, intern(&in, STR("h.3.attn")));
	assert_int_equal(in.n, 500);
	arena_free(&a);
}

static void distances_and_patterns(void **state)
{
	(void)state;
	assert_int_equal(edit_distance(STR("layers"), STR("layer")), 1);
	assert_int_equal(edit_distance(STR("haeds"), STR("heads")), 1);
	assert_int_equal(edit_distance(STR(""), STR("abc")), 3);
	assert_true(path_match(STR("*.bias"), STR("ln_f.bias")));
	assert_false(path_match(STR("*.bias"), STR("h.0.ln_1.bias")));
	assert_true(path_match(STR("**.bias"), STR("h.0.ln_1.bias")));
	assert_true(path_match(STR("**.{q,v}_proj"), STR("model.layers.0.self_attn.v_proj")));
	assert_false(path_match(STR("**.{q,v}_proj"), STR("model.layers.0.self_attn.k_proj")));
	assert_true(path_match(STR("*"), STR("")));
}

static void map_keeps_insertion_order(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Map m = { .arena = &a };
	for (u64 i = 0; i < 1000; i++)
		map_put(&m, i * 7919 % 1000, i);
	map_put(&m, 0, 5);
	assert_int_equal(m.n, 1000);
	assert_int_equal(*map_get(&m, 0), 5);
	assert_int_equal(m.entry[1].key, 7919 % 1000);
	assert_null(map_get(&m, 1000));
	Map few = { .arena = &a };
	map_put(&few, 3, 4);
	map_put(&few, 7919 % 1000, 8);
	map_assign(&m, &few);
	assert_int_equal(m.n, 2);
	assert_int_equal(*map_get(&m, 3), 4);
	assert_int_equal(*map_get(&m, 7919 % 1000), 8);
	assert_null(map_get(&m, 0));
	arena_free(&a);
}

static void messages_show_line_and_caret(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Diag d = { .arena = &a };
	u16 f = diag_source(&d, "m.plinth", STR("one\ntwo words\n"));
	diag_error(&d, E0000, (Loc){ 2, 5, 5, f }, "unknown name '%s'", "words");
	diag_note(&d, (Loc){ 1, 1, 3, f }, "declared here");
	diag_error(&d, E0000, (Loc){ 2, 5, 5, f }, "the same place again");
	diag_note(&d, (Loc){ 0 }, "so this note is dropped too");
	assert_int_equal(d.nerror, 1);
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);
	diag_print(&d, to, false);
	fclose(to);
	assert_string_equal(text, "m.plinth:2:5: error[E0000]: unknown name 'words'\n"
				  "    2 | two words\n      |     ^~~~~\n"
				  "m.plinth:1:1: note: declared here\n    1 | one\n      | ^~~\n");
	free(text);
	arena_free(&a);
}

static void writes_are_whole_or_absent(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	char folder[] = "/tmp/plinth_support_XXXXXX";
	assert_non_null(mkdtemp(folder));
	const char *path = arena_printf(&a, "%s/x/y/file", folder);
	assert_null(io_make_folder(arena_printf(&a, "%s/x/y", folder)));
	assert_null(io_write(path, (Blob){ (const u8 *)"hello", 5 }));
	AtomicFile f;
	assert_null(io_create(path, &f));
	fputs("half", f.file);
	io_abandon(&f);
	Str text;
	assert_null(io_read(&a, path, &text));
	assert_true(str_equal(text, STR("hello")));
	Mapping m;
	assert_null(io_map(path, &m));
	assert_int_equal(m.bytes.n, 5);
	io_unmap(&m);
	Status s = io_read(&a, folder, &text);
	assert_non_null(s);
	assert_int_equal(status_exit(s), 2);
	assert_non_null(io_read(&a, "/nonexistent/file", &text));
	assert_null(io_remove_folder(arena_printf(&a, "%s/x", folder)));
	rmdir(folder);
	arena_free(&a);
}

/* A pipe stays one, and gets the bytes; so does /dev/null. */
static void devices_are_written_to(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	char folder[] = "/tmp/plinth_support_XXXXXX";
	assert_non_null(mkdtemp(folder));
	const char *path = arena_printf(&a, "%s/pipe", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	int end = open(path, O_RDWR | O_NONBLOCK);
	assert_true(end >= 0);
	assert_null(io_write(path, (Blob){ (const u8 *)"hello", 5 }));
	char got[8] = { 0 };
	assert_int_equal(read(end, got, sizeof got), 5);
	assert_string_equal(got, "hello");
	close(end);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_null(io_remove_folder(folder));

	/* one without a name, as /dev/stdout and `>(...)` of a shell are */
	int nameless[2];
	assert_int_equal(pipe(nameless), 0);
	path = arena_printf(&a, "/proc/self/fd/%d", nameless[1]);
	assert_null(io_writable(path));
	assert_null(io_write(path, (Blob){ (const u8 *)"again", 5 }));
	assert_int_equal(read(nameless[0], got, sizeof got), 5);
	assert_string_equal(got, "again");
	close(nameless[0]);
	close(nameless[1]);
	arena_free(&a);
}

/* Replacing a file changes what is in it, not who may read it nor what points to it. */
static void links_and_permissions_stay(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	char folder[] = "/tmp/plinth_support_XXXXXX";
	assert_non_null(mkdtemp(folder));
	const char *path = arena_printf(&a, "%s/file", folder), *link = arena_printf(&a, "%s/link", folder);
	assert_null(io_write(path, (Blob){ (const u8 *)"old", 3 }));
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(symlink("file", link), 0);
	assert_null(io_write(link, (Blob){ (const u8 *)"new", 3 }));
	struct stat st;
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	Str text;
	assert_null(io_read(&a, path, &text));
	assert_true(str_equal(text, STR("new")));

	/* what cannot be looked at is not taken for missing */
	const char *circle = arena_printf(&a, "%s/circle", folder);
	assert_int_equal(symlink("circle", circle), 0);
	assert_true(io_exists(circle));
	assert_non_null(io_read(&a, circle, &text));
	assert_false(io_exists(arena_printf(&a, "%s/none", folder)));
	assert_false(io_exists(arena_printf(&a, "%s/file/none", folder)));

	assert_int_equal(unlink(path), 0);
	Status why = io_write(link, (Blob){ (const u8 *)"new", 3 });
	assert_non_null(why);
	assert_non_null(strstr(why->text, link));
	assert_int_equal(lstat(link, &st), 0);
	assert_null(io_remove_folder(folder));
	arena_free(&a);
}

/* What killed processes left of a file goes when it is written again; what a living one writes, and other files, do not. */
static void what_is_left_is_removed(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	char folder[] = "/tmp/plinth_support_XXXXXX";
	assert_non_null(mkdtemp(folder));
	pid_t gone = fork();
	assert_true(gone >= 0);
	if (!gone)
		_exit(0);
	assert_int_equal(waitpid(gone, NULL, 0), gone);
	const char *path[] = { arena_printf(&a, "%s/file.tmp.%d", folder, gone), arena_printf(&a, "%s/filed.tmp.%d", folder, gone),
			       arena_printf(&a, "%s/file.tmp.%d", folder, getppid()), arena_printf(&a, "%s/file.tmp.%d.bak", folder, gone) };
	for (u32 i = 0; i < COUNT(path); i++)
		fclose(fopen(path[i], "w"));
	assert_null(io_write(arena_printf(&a, "%s/file", folder), (Blob){ (const u8 *)"new", 3 }));
	for (u32 i = 0; i < COUNT(path); i++)
		assert_int_equal(io_exists(path[i]), i != 0);
	assert_null(io_remove_folder(folder));
	arena_free(&a);
}

/* What is open already is written to where it stands, behind what others have added; the file that a shell opened stays that file. */
static void what_is_open_is_written_to(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	char folder[] = "/tmp/plinth_support_XXXXXX";
	assert_non_null(mkdtemp(folder));
	const char *log = arena_printf(&a, "%s/log", folder), *link = arena_printf(&a, "%s/link", folder);
	assert_null(io_write(log, (Blob){ (const u8 *)"first,", 6 }));
	struct stat was, st;
	assert_int_equal(stat(log, &was), 0);
	int fd = open(log, O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	const char *name = arena_printf(&a, "/dev/fd/%d", fd);
	assert_int_equal(symlink(name, link), 0);
	assert_null(io_writable(name));
	assert_null(io_write(name, (Blob){ (const u8 *)"second,", 7 }));
	assert_null(io_write(link, (Blob){ (const u8 *)"third", 5 }));
	close(fd);
	assert_non_null(io_write(name, (Blob){ (const u8 *)"none", 4 }));
	assert_int_equal(stat(log, &st), 0);
	assert_int_equal(st.st_ino, was.st_ino);
	Str text;
	assert_null(io_read(&a, log, &text));
	assert_true(str_equal(text, STR("first,second,third")));
	assert_null(io_remove_folder(folder));
	arena_free(&a);
}

/* Names as long as a file system allows, told from one another by their last letter; a longer one is refused before there is anything to write. */
static void names_are_as_long_as_may_be(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	char folder[] = "/tmp/plinth_support_XXXXXX", name[NAME_MAX + 2];
	assert_non_null(mkdtemp(folder));
	for (u32 n = NAME_MAX - 40; n <= NAME_MAX; n++) {
		memset(name, 'x', n);
		name[n] = 0;
		AtomicFile f[2];
		for (u32 i = 0; i < 2; i++) {
			name[n - 1] = (char)('a' + i);
			assert_null(io_create(arena_printf(&a, "%s/%s", folder, name), &f[i]));
			fputc(name[n - 1], f[i].file);
		}
		for (u32 i = 0; i < 2; i++) {
			Str text;
			assert_null(io_commit(&f[i]));
			assert_null(io_read(&a, f[i].path, &text));
			assert_true(text.n == 1 && *text.s == (char)('a' + i));
		}
	}
	memset(name, 'x', NAME_MAX + 1);
	name[NAME_MAX + 1] = 0;
	assert_non_null(io_writable(arena_printf(&a, "%s/%s", folder, name)));
	assert_null(io_remove_folder(folder));
	arena_free(&a);
}

/* The file that an address lies in, for as long as it is mapped. */
static void mapped_files_are_known(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	char folder[] = "/tmp/plinth_support_XXXXXX";
	assert_non_null(mkdtemp(folder));
	const char *path[] = { arena_printf(&a, "%s/one", folder), arena_printf(&a, "%s/two", folder) };
	Mapping m[2];
	for (u32 i = 0; i < 2; i++) {
		assert_null(io_write(path[i], (Blob){ (const u8 *)"hello", 5 }));
		assert_null(io_map(path[i], &m[i]));
	}
	for (u32 i = 0; i < 2; i++) {
		const u8 *at = m[i].bytes.p;
		assert_string_equal(io_mapped_file(at), path[i]);
		assert_string_equal(io_mapped_file(at + 4), path[i]);
		assert_null(io_mapped_file(at + 5));
		io_unmap(&m[i]);
		assert_null(io_mapped_file(at));
	}
	assert_null(io_remove_folder(folder));
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arena_releases_to_a_mark),
		cmocka_unit_test(arena_adopts_and_reuses),
		cmocka_unit_test(text_is_interned_once),
		cmocka_unit_test(distances_and_patterns),
		cmocka_unit_test(map_keeps_insertion_order),
		cmocka_unit_test(messages_show_line_and_caret),
		cmocka_unit_test(writes_are_whole_or_absent),
		cmocka_unit_test(devices_are_written_to),
		cmocka_unit_test(links_and_permissions_stay),
		cmocka_unit_test(what_is_left_is_removed),
		cmocka_unit_test(what_is_open_is_written_to),
		cmocka_unit_test(names_are_as_long_as_may_be),
		cmocka_unit_test(mapped_files_are_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
