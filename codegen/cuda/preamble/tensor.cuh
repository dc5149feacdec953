// codegen/cuda/preamble/tensor.cuh: asynchronous copies and tensor cores as sm_80 and up have them, after base.cuh.
//
// Places in shared memory are 32-bit addresses (pl_shared_address). The volatile statements keep their order among
// each other and, by "memory", with other accesses; the products are free to move.
//
// mma m16n8k16, lane l, g = l / 4, q = 2 * (l % 4): a[0] = A[g][q..q+1], a[1] = A[g+8][q..], a[2] = A[g][q+8..],
// a[3] = A[g+8][q+8..]; b[0] = B[q..q+1][g], b[1] = B[q+8..][g]; c[0], c[1] = C[g][q..q+1], c[2], c[3] = C[g+8][q..].
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
