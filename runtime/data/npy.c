/* runtime/data/npy.c: see npy.h. The header is a Python dictionary, {'descr': '<f4', 'fortran_order': False, 'shape':
 * (2, 3), }, of which those three entries are read, in any order. */
#include "runtime/data/npy.h"

#include <string.h>

static Status says(const char *path, const char *what)
{
	return FAIL(STATUS_INPUT, "%s: %s", path, what);
}

/* What stands behind 'key': in the header. */
static const char *entry(Str header, const char *key)
{
	size_t n = strlen(key);
	const char *at = memmem(header.s, header.n, key, n);
	const char *end = header.s + header.n;
	for (at = at ? at + n : NULL; at && at < end && (*at == ' ' || *at == ':');)
		at++;
	return at && at < end ? at : NULL;
}

static bool read_dtype(const char *at, const char *end, SafeDtype *out)
{
	static const struct {
		const char *name;
		SafeDtype dtype;
	} row[] = { { "'<f4'", SAFE_F32 }, { "'<f8'", SAFE_F64 }, { "'<f2'", SAFE_F16 }, { "'<i4'", SAFE_I32 }, { "'<i8'", SAFE_I64 },
		    { "'<i2'", SAFE_I16 }, { "'|i1'", SAFE_I8 },  { "'|u1'", SAFE_U8 },	 { "'<u4'", SAFE_U32 }, { "'|b1'", SAFE_BOOL } };
	for (u32 i = 0; i < COUNT(row); i++)
		if ((size_t)(end - at) > strlen(row[i].name) && !memcmp(at, row[i].name, strlen(row[i].name))) {
			*out = row[i].dtype;
			return true;
		}
	return false;
}

/* "(2, 3)", "(5,)", "()" */
static bool read_shape(const char *at, const char *end, NpyArray *out)
{
	if (*at++ != '(')
		return false;
	while (at < end && *at != ')') {
		i64 n = 0;
		const char *begin = at;
		for (; at < end && *at >= '0' && *at <= '9' && n < ((i64)1 << 40); at++)
			n = n * 10 + (*at - '0');
		if (at == begin || out->rank == COUNT(out->dim))
			return false;
		out->dim[out->rank++] = n;
		while (at < end && (*at == ' ' || *at == ','))
			at++;
	}
	return at < end;
}

Status npy_parse(const char *path, Blob bytes, NpyArray *out)
{
	*out = (NpyArray){ 0 };
	if (bytes.n < 12 || memcmp(bytes.p, "\x93NUMPY", 6))
		return says(path, "not an array as numpy.save writes it");
	bool wide = bytes.p[6] > 1;
	size_t size = bytes.p[8] | (size_t)bytes.p[9] << 8, at = wide ? 12 : 10;
	size |= wide ? (size_t)bytes.p[10] << 16 | (size_t)bytes.p[11] << 24 : 0;
	if (size > bytes.n - at)
		return says(path, "it ends within its header");
	Str header = { (const char *)bytes.p + at, size };
	const char *dtype = entry(header, "'descr'"), *order = entry(header, "'fortran_order'"), *shape = entry(header, "'shape'");
	const char *end = header.s + header.n;
	if (!dtype || !order || !shape || !read_shape(shape, end, out))
		return says(path, "its header has no descr, fortran_order and shape, or more than 10 dimensions");
	if (!read_dtype(dtype, end, &out->dtype))
		return says(path, "its elements are of a type that is not read here: little-endian numbers and booleans are");
	if (*order != 'F')
		return says(path, "it is in Fortran's order: numpy.ascontiguousarray before numpy.save");
	u64 n = safe_dtype_size(out->dtype);
	out->data = (Blob){ bytes.p + at + size, bytes.n - at - size };
	for (u32 i = 0; i < out->rank; i++) {
		if (out->dim[i] && n > out->data.n / (u64)out->dim[i])
			return says(path, "it is shorter than its shape says");
		n *= (u64)out->dim[i];
	}
	return n == out->data.n ? OK : says(path, "its length is not what its shape says");
}
