/* runtime/data/images.c: images and their labels from a pair of idx files, as MNIST and Fashion-MNIST have them
 * (LeCun, Cortes, Burges; Xiao et al., 2017): PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte, each as it is or
 * compressed (.gz). An idx file is two zero bytes, a byte that says the type (8: unsigned bytes, the one read here),
 * one that says how many dimensions, their sizes as big-endian 32-bit numbers, and the elements.
 *
 * Images are [count, height, width], of one channel, or [count, channels, height, width]. A model takes them as f32
 * from 0 to 1, or as u8 as they are. Every size is checked against the file's length before anything is read. */
#include "runtime/data/dataset.h"
#include "runtime/data/unpack.h"

#include <string.h>
#include <xxhash.h>

enum { IDX_BYTES = 8, IDX_RANK = 4 };

typedef struct Idx {
	u32 rank;
	u64 dim[IDX_RANK], size; /* size: elements, which are bytes */
	const u8 *data;
	Mapping map;
	u64 hash;                /* of all its bytes, unpacked */
} Idx;

typedef struct Images {
	Idx image, label;
	u64 channels, height, width;
	u32 classes; /* the largest label and one */
} Images;

typedef struct ImageInputs {
	u32 images, labels;
	bool real; /* f32, from 0 to 1 */
	u64 size;  /* elements of an image */
} ImageInputs;

static Status says(const char *path, const char *what)
{
	return FAIL(STATUS_INPUT, "%s: %s", path, what);
}

/* The header of n bytes at p; *at is where the elements begin. */
static Status header(const char *path, const u8 *p, size_t n, Idx *out, size_t *at)
{
	if (n < 4 || p[0] || p[1])
		return says(path, "not an idx file: it does not begin with two zero bytes, a type and a rank");
	if (p[2] != IDX_BYTES)
		return FAIL(STATUS_INPUT, "%s: its elements are of type 0x%02x, and unsigned bytes (0x08) are read here", path, p[2]);
	out->rank = p[3];
	if (!out->rank || out->rank > IDX_RANK)
		return FAIL(STATUS_INPUT, "%s: %u dimensions, and 1 to %u are read here", path, out->rank, (u32)IDX_RANK);
	*at = 4 + 4 * (size_t)out->rank;
	if (n < *at)
		return says(path, "it ends within its header");
	out->size = 1;
	for (u32 i = 0; i < out->rank; i++) {
		const u8 *d = p + 4 + 4 * i;
		out->dim[i] = (u64)d[0] << 24 | (u64)d[1] << 16 | (u64)d[2] << 8 | d[3];
		if (!out->dim[i])
			return FAIL(STATUS_INPUT, "%s: dimension %u is 0", path, i);
		if (out->size > n / out->dim[i])
			return FAIL(STATUS_INPUT, "%s: dimension %u is %llu, which does not fit the file's length", path, i,
				    (unsigned long long)out->dim[i]);
		out->size *= out->dim[i];
	}
	return OK;
}

static Status open_idx(const char *path, Idx *out)
{
	*out = (Idx){ 0 };
	TRY(unpack_map(path, &out->map));
	Blob b = out->map.bytes;
	size_t at = 0;
	out->hash = XXH3_64bits(b.p, b.n);
	TRY(header(path, b.p, b.n, out, &at));
	if (b.n - at != out->size)
		return FAIL(STATUS_INPUT, "%s: %llu bytes follow its header, which says %llu", path, (unsigned long long)(b.n - at),
			    (unsigned long long)out->size);
	out->data = b.p + at;
	return OK;
}

/* PREFIX-images-idx3-ubyte, or that with .gz; `rank` is the number in the name. NULL where there is none. */
static const char *idx_path(Arena *a, const char *prefix, const char *what, u32 rank)
{
	static const char *const ending[] = { "", ".gz" };
	for (u32 i = 0; i < COUNT(ending); i++) {
		const char *path = arena_printf(a, "%s-%s-idx%u-ubyte%s", prefix, what, rank, ending[i]);
		if (io_exists(path))
			return path;
	}
	return NULL;
}

static const char *images_path(Arena *a, const char *prefix)
{
	const char *path = idx_path(a, prefix, "images", 3);
	return path ? path : idx_path(a, prefix, "images", 4);
}

static Status lacks(const Dataset *d, const char *what)
{
	return FAIL(STATUS_INPUT, "there is no %s-%s-ubyte or %s-%s-ubyte.gz", d->path, what, d->path, what);
}

static Status images_open(Arena *a, const DataOption *option, u32 n, Dataset *d)
{
	TRY(data_options(d, option, n, NULL, 0));
	Images *x = NEW(a, Images);
	d->own = x;
	const char *image = images_path(a, d->path), *label = idx_path(a, d->path, "labels", 1);
	if (!image)
		return lacks(d, "images-idx3");
	TRY(open_idx(image, &x->image));
	if (label)
		TRY(open_idx(label, &x->label));
	if (x->image.rank < 3)
		return FAIL(STATUS_INPUT, "%s: %u dimensions, and images have 3 or 4", image, x->image.rank);
	if (label && (x->label.rank != 1 || x->label.dim[0] != x->image.dim[0]))
		return FAIL(STATUS_INPUT, "%s has %llu labels, and %s has %llu images", label, (unsigned long long)x->label.size,
			    image, (unsigned long long)x->image.dim[0]);
	x->channels = x->image.rank == 3 ? 1 : x->image.dim[1];
	x->height = x->image.dim[x->image.rank - 2];
	x->width = x->image.dim[x->image.rank - 1];
	for (u64 i = 0; i < x->label.size; i++)
		x->classes = MAX(x->classes, x->label.data[i] + 1u);
	d->hash = data_mix(x->image.hash, x->label.hash);
	return OK;
}

static void images_close(Dataset *d)
{
	Images *x = d->own;
	if (!x)
		return;
	io_unmap(&x->image.map);
	io_unmap(&x->label.map);
}

static const char *images_find(Arena *a, const char *prefix, bool training)
{
	const char *part = arena_printf(a, "%s/%s", prefix, training ? "train" : "t10k");
	return images_path(a, part) ? part : images_path(a, prefix) ? prefix : NULL;
}

static Status images_bind(Arena *a, const Dataset *d, DataInputs in, const void **bound, u64 *units)
{
	static const char *const name[] = { "images", "labels" };
	const Images *x = d->own;
	u32 at[COUNT(name)];
	ImageInputs *b = NEW(a, ImageInputs);
	TRY(data_bind(d, in, name, COUNT(name), at));
	*b = (ImageInputs){ at[0], at[1], false, x->channels * x->height * x->width };
	if (b->images == DATA_INPUTS)
		return FAIL(STATUS_INPUT, "the entry has no input 'images'");
	const PackageTensor *t = &in.input[b->images], *l = b->labels < in.n ? &in.input[b->labels] : NULL;
	b->real = t->dtype == PACKAGE_F32;
	bool fits = t->rank == 4 && (u64)t->dim[1] == x->channels && (u64)t->dim[2] == x->height && (u64)t->dim[3] == x->width;
	if (!fits || (!b->real && t->dtype != PACKAGE_U8))
		return data_misfit(d, in, b->images,
				   arena_printf(a, "must be f32 or u8 [B, %llu, %llu, %llu], as the images are",
						(unsigned long long)x->channels, (unsigned long long)x->height,
						(unsigned long long)x->width));
	if (l && !x->label.data)
		return lacks(d, "labels-idx1");
	if (l && (l->dtype != PACKAGE_I32 || l->rank != 1))
		return data_misfit(d, in, b->labels, "must be i32[B]");
	*bound = b;
	*units = 1;
	return OK;
}

static u64 images_rows(const Dataset *d, const void *bound, DataWalk walk)
{
	(void)bound, (void)walk;
	return ((const Images *)d->own)->image.dim[0];
}

static Status images_read(const Dataset *d, const void *bound, const DataPlace *at, u8 *const *to)
{
	const ImageInputs *b = bound;
	const Images *x = d->own;
	const u8 *from = x->image.data + at->row * b->size;
	f32 *real = (f32 *)(void *)to[b->images];
	if (!b->real)
		memcpy(to[b->images], from, b->size);
	for (u64 i = 0; b->real && i < b->size; i++)
		real[i] = (f32)from[i] / 255.0f;
	if (b->labels < DATA_INPUTS)
		*(i32 *)(void *)to[b->labels] = x->label.data[at->row];
	return OK;
}

static void images_pad(const void *bound, u8 *const *to)
{
	const ImageInputs *b = bound;
	memset(to[b->images], 0, b->size * (b->real ? sizeof(f32) : 1));
	if (b->labels < DATA_INPUTS)
		*(i32 *)(void *)to[b->labels] = DATA_IGNORE;
}

static const char *images_describe(const Dataset *d, Arena *a)
{
	const Images *x = d->own;
	const char *classes = x->classes ? arena_printf(a, " in %u classes", x->classes) : "";
	return arena_printf(a, "%llu images of %llu x %llu x %llu%s", (unsigned long long)x->image.dim[0],
			    (unsigned long long)x->channels, (unsigned long long)x->height, (unsigned long long)x->width, classes);
}

const DatasetKind dataset_images = { .name = "images",
				     .unit = "images",
				     .gives = "images: f32[B, C, H, W] or u8[B, C, H, W], and labels: i32[B]",
				     .open = images_open,
				     .close = images_close,
				     .find = images_find,
				     .bind = images_bind,
				     .rows = images_rows,
				     .read = images_read,
				     .pad = images_pad,
				     .describe = images_describe };
