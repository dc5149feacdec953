// codegen/cuda/preamble/tensor.cuh: asynchronous copies and tensor cores as sm_80 and up have them, after base.cuh.
//
// Places in shared memory are 32-bit addresses (pl_shared_address). The volatile statements keep their order among
// each other and, by "memory", with other accesses; the products are free to move.
//
// mma m16n8k16, lane l, g = l / 4, q = 2 * (l % 4): a[0] = A[g][q..q+1], a[1] = A[g+8][q..], a[2] = A[g][q+8..],
// a[3] = A[g+8][q+8..]; b[0] = B[q..q+1][g], b[1] = B[q+8..][g]; c[0], c[1] = C[g][q..q+1], c[2], c[3] = C[g+8][q..].
// m16n8k32 of 8 bits: the same, of pairs of elements where those are of one.
// ldmatrix x4: lane l names row l % 8 of matrix l / 8 (16 bytes); r[i] = row l / 4 of matrix i, elements q, q + 1; with
// trans, column l / 4, rows q, q + 1.

PL u32 pl_shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

// 16 bytes from global to shared memory; those from bytes_valid on are zeros, and not read.
PL void pl_cp_async16(u32 to_shared, const void *from, u32 bytes_valid)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
		     :
		     : "r"(to_shared), "l"(__cvta_generic_to_global(from)), "r"(bytes_valid)
		     : "memory");
}
PL void pl_cp_async16(u32 to_shared, const void *from)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
		     :
		     : "r"(to_shared), "l"(__cvta_generic_to_global(from))
		     : "memory");
}
// The copies so far become a group; wait until at most N groups of this thread are under way.
PL void pl_cp_async_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }
template <int N> PL void pl_cp_async_wait() { asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory"); }

PL void pl_ldmatrix_x4(u32 *r, u32 address)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(address)
		     : "memory");
}
PL void pl_ldmatrix_x4_trans(u32 *r, u32 address)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(address)
		     : "memory");
}

// c += a b
PL void pl_mma_m16n8k16_bf16(float *c, const u32 *a, const u32 *b)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
PL void pl_mma_m16n8k16_f16(float *c, const u32 *a, const u32 *b)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// What a product of tiles is made of: step() adds to c. That of 8 bits adds with some 14 bits of fraction (DeepSeek-AI 2024,
// DeepSeek-V3, 3.3.2): what it gives is therefore added to sums in f32.
struct PlProduct_bf16 {
	PL void step(float *c, const u32 *a, const u32 *b) { pl_mma_m16n8k16_bf16(c, a, b); }
};
struct PlProduct_f16 {
	PL void step(float *c, const u32 *a, const u32 *b) { pl_mma_m16n8k16_f16(c, a, b); }
};
#define PL_PRODUCT_F8(left, right) \
	struct PlProduct_f8##left##_f8##right { \
		PL void step(float *c, const u32 *a, const u32 *b) \
		{ \
			float d[4]; \
			asm("mma.sync.aligned.m16n8k32.row.col.f32." #left "." #right ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, " \
			    "{%10,%10,%10,%10};" \
			    : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3]) \
			    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f)); \
			EACH(4) c[j] += d[j]; \
		} \
	};
PL_PRODUCT_F8(e4m3, e4m3)
PL_PRODUCT_F8(e4m3, e5m2)
PL_PRODUCT_F8(e5m2, e4m3)

// ---- tiles of matrices in shared memory: rows of ROW chunks of 16 bytes, which change places so that eight rows'
// chunks of one column lie in different banks ----

template <int ROW> PL u32 pl_tile_place(int row, int chunk)
{
	constexpr int span = ROW < 8 ? ROW : 8;
	return (u32)((row * ROW + (chunk ^ (row / (8 / span) & (span - 1)))) * 16);
}
PL void pl_store_words(u32 to_shared, u32 a, u32 b, u32 c, u32 d)
{
	asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" : : "r"(to_shared), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}
PL void pl_store_chunk_bf16(u32 to_shared, const float *w)
{
	pl_store_words(to_shared, pl_pair_bf16(w[0], w[1]), pl_pair_bf16(w[2], w[3]), pl_pair_bf16(w[4], w[5]),
		       pl_pair_bf16(w[6], w[7]));
}
PL void pl_store_chunk_f16(u32 to_shared, const float *w)
{
	pl_store_words(to_shared, pl_pair_f16(w[0], w[1]), pl_pair_f16(w[2], w[3]), pl_pair_f16(w[4], w[5]),
		       pl_pair_f16(w[6], w[7]));
}
#define PL_STORE_CHUNK_F8(d) \
	PL u32 pl_four_##d(const float *w) { return pl_pair_##d(w[0], w[1]) | (u32)pl_pair_##d(w[2], w[3]) << 16; } \
	PL void pl_store_chunk_##d(u32 to_shared, const float *w) \
	{ \
		pl_store_words(to_shared, pl_four_##d(w), pl_four_##d(w + 4), pl_four_##d(w + 8), pl_four_##d(w + 12)); \
	}
PL_STORE_CHUNK_F8(f8e4m3)
PL_STORE_CHUNK_F8(f8e5m2)

// a[i]: rows m.. + 16 i, k.. of a tile [m][k], or of [k][m] where BY_K.
template <int N, int ROW, bool BY_K> PL void pl_tile_left(u32 (*a)[4], u32 tile, int m, int k)
{
	int lane = threadIdx.x % 32;
#pragma unroll
	for (int i = 0; i < N; i++)
		if (BY_K)
			pl_ldmatrix_x4_trans(a[i], tile + pl_tile_place<ROW>(k + lane % 8 + lane / 16 * 8,
									     (m + 16 * i) / 8 + lane / 8 % 2));
		else
			pl_ldmatrix_x4(a[i], tile + pl_tile_place<ROW>(m + 16 * i + lane % 16, k / 8 + lane / 16));
}
// b[i]: columns n.. + 16 i (two products' worth), k.. of a tile [n][k], or of [k][n] where BY_K.
template <int N, int ROW, bool BY_K> PL void pl_tile_right(u32 (*b)[4], u32 tile, int n, int k)
{
	int lane = threadIdx.x % 32;
#pragma unroll
	for (int i = 0; i < N; i++)
		if (BY_K)
			pl_ldmatrix_x4_trans(b[i], tile + pl_tile_place<ROW>(k + lane % 16, (n + 16 * i) / 8 + lane / 16));
		else
			pl_ldmatrix_x4(b[i], tile + pl_tile_place<ROW>(n + 16 * i + lane % 8 + lane / 16 * 8,
								      k / 8 + lane / 8 % 2));
}

// acc += a warp's part of the product of two tiles, M rows from m, N columns from n, in order of k; DEPTH and k are of elements
// of 16 bits, or of pairs of those of 8.
template <class Product, int M, int N, int DEPTH, int LEFT, bool LEFT_BY_K, int RIGHT, bool RIGHT_BY_K>
PL void pl_tile_multiply(float (*acc)[N / 8][4], u32 left, u32 right, int m, int n)
{
#pragma unroll
	for (int k = 0; k < DEPTH; k += 16) {
		u32 a[M / 16][4], b[N / 16][4];
		pl_tile_left<M / 16, LEFT, LEFT_BY_K>(a, left, m, k);
		pl_tile_right<N / 16, RIGHT, RIGHT_BY_K>(b, right, n, k);
#pragma unroll
		for (int i = 0; i < M / 16; i++)
#pragma unroll
			for (int j = 0; j < N / 8; j++)
				Product::step(acc[i][j], a[i], &b[j / 2][j % 2 * 2]);
	}
}

// A warp's 16 rows of N columns of sums, from the layout of products to rows in shared memory.
template <int N> PL int pl_rows_place(int row, int column)
{
	constexpr int each = N < 32 ? 32 / N : 1, groups = N < 32 ? N / 8 : 4;
	return row * N + (column ^ (row / each & (groups - 1)) * 8);
}
template <int N> PL void pl_rows_put(float *rows, const float (*acc)[4])
{
	int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
#pragma unroll
	for (int j = 0; j < N / 8; j++) {
		*(float2 *)(rows + pl_rows_place<N>(row, j * 8 + column)) = make_float2(acc[j][0], acc[j][1]);
		*(float2 *)(rows + pl_rows_place<N>(row + 8, j * 8 + column)) = make_float2(acc[j][2], acc[j][3]);
	}
}
template <int N, int WIDTH> PL void pl_rows_get(float *v, const float *rows, int row, int column)
{
	pl_load_f32<WIDTH, (WIDTH < 4 ? WIDTH : 4)>(v, rows + pl_rows_place<N>(row, column));
}
