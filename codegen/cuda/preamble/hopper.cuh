// codegen/cuda/preamble/hopper.cuh: sm_90a: barriers in shared memory that count bytes, the bulk copy engine, and products
// by four warps together (wgmma), after base.cuh and tensor.cuh.
//
// Tiles lie in shared memory as the engine writes them with a swizzle of 128 bytes: rows of 64 elements of 2 bytes, at a
// multiple of 1024 bytes. wgmma m64nN, warp w of the four, lane l, g = l / 4, q = 2 * (l % 4): d[4 j], d[4 j + 1] =
// D[16 w + g][8 j + q..], d[4 j + 2], d[4 j + 3] = D[16 w + g + 8][8 j + q..].

PL void pl_barrier_init(u64 *barrier, u32 arrivals)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(pl_shared_address(barrier)), "r"(arrivals) : "memory");
}
// Makes barriers known to the copy engine; then the block's own barrier.
PL void pl_barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory"); }
// Arrives, and says how many bytes copies will bring.
PL void pl_barrier_expect(u64 *barrier, u32 bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
		     :
		     : "r"(pl_shared_address(barrier)), "r"(bytes)
		     : "memory");
}
PL void pl_barrier_arrive(u64 *barrier)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" : : "r"(pl_shared_address(barrier)) : "memory");
}
// Until the phase of this parity is over.
PL void pl_barrier_wait(u64 *barrier, u32 parity)
{
	u32 done;
	do
		asm volatile("{\n"
			     ".reg .pred over;\n"
			     "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
			     "selp.u32 %0, 1, 0, over; }"
			     : "=r"(done)
			     : "r"(pl_shared_address(barrier)), "r"(parity)
			     : "memory");
	while (!done);
}

PL void pl_map_prefetch(const TensorMap *map) { asm volatile("prefetch.tensormap [%0];" : : "l"(map) : "memory"); }
// The map's box at the given coordinates (contiguous dimension first); its bytes count for the barrier.
PL void pl_copy_box(void *to, const TensorMap *map, u64 *barrier, int c0, int c1)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
		     "{%3, %4}], [%2];"
		     :
		     : "r"(pl_shared_address(to)), "l"(map), "r"(pl_shared_address(barrier)), "r"(c0), "r"(c1)
		     : "memory");
}
PL void pl_copy_box(void *to, const TensorMap *map, u64 *barrier, int c0, int c1, int c2)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
		     "{%3, %4, %5}], [%2];"
		     :
		     : "r"(pl_shared_address(to)), "l"(map), "r"(pl_shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2)
		     : "memory");
}
PL void pl_copy_box(void *to, const TensorMap *map, u64 *barrier, int c0, int c1, int c2, int c3)
{
	asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
		     "{%3, %4, %5, %6}], [%2];"
		     :
		     : "r"(pl_shared_address(to)), "l"(map), "r"(pl_shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
		     : "memory");
}
PL void pl_copy_box(void *to, const TensorMap *map, u64 *barrier, int c0, int c1, int c2, int c3, int c4)
{
	asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
		     "{%3, %4, %5, %6, %7}], [%2];"
		     :
		     : "r"(pl_shared_address(to)), "l"(map), "r"(pl_shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
		     : "memory");
}

// A warpgroup's register limit: all of its warps together.
template <int N> PL void pl_registers_give() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(N)); }
template <int N> PL void pl_registers_take() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(N)); }

// The first lane's value, in a way that the compiler knows to be one for the whole warp: branches on it do not divide
// warps, as instructions of all warps of a group need.
PL int pl_of_warp(int x) { return __shfl_sync(0xffffffffu, x, 0); }

PL void pl_wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }
PL void pl_wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
// Until at most N groups are under way.
template <int N> PL void pl_wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(N) : "memory"); }

// Behind a wait: nothing that reads these sums may go before it, which the compiler would not know from the wait itself.
template <int N> PL void pl_wgmma_there(float (*sums)[4])
{
#pragma unroll
	for (int i = 0; i < N; i++)
#pragma unroll
		for (int j = 0; j < 4; j++)
			asm volatile("" : "+f"(sums[i][j]) : : "memory");
}

// A tile for wgmma. Rows of 64 elements along K: steps of 16 along K are 32 bytes apart. BY_K: rows of 64 elements along
// M (or N), one for each k; further elements of M (N) follow `block` bytes after; steps along K are 2048 bytes apart.
template <bool BY_K> PL u64 pl_wgmma_tile(u32 address, u32 block)
{
	return (u64)(address >> 4 & 0x3fff) | (u64)(BY_K ? block >> 4 : 1) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

// d += a b: 64 rows of a, N columns of b, 16 steps along K. The registers must not be touched until a wait.
#define PL_WGMMA_LIST_64 \
	"%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
	"%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define PL_WGMMA_SUMS_64(d) \
	"+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
	"+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
	"+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
	"+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define PL_WGMMA_LIST_128 \
	"%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
	"%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
	"%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
	"%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define PL_WGMMA_SUMS_128(d) \
	"+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
	"+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
	"+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
	"+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
	"+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
	"+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
	"+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
	"+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define PL_WGMMA_LIST_256 \
	"%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
	"%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
	"%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
	"%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
	"%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
	"%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
	"%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
	"%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define PL_WGMMA_SUMS_256(d) \
	"+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
	"+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
	"+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
	"+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
	"+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
	"+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
	"+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
	"+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), \
	"+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), \
	"+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), \
	"+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), \
	"+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), \
	"+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), \
	"+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]), \
	"+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), \
	"+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
#define PL_WGMMA(type, name, N, A, B, TA, TB) \
	template <bool A_BY_K, bool B_BY_K> PL void pl_wgmma_##name##_n##N(float *d, u64 a, u64 b) \
	{ \
		asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" PL_WGMMA_LIST_##N "}, " \
			     "%" #A ", %" #B ", 1, 1, 1, %" #TA ", %" #TB ";" \
			     : PL_WGMMA_SUMS_##N(d) \
			     : "l"(a), "l"(b), "n"(A_BY_K ? 1 : 0), "n"(B_BY_K ? 1 : 0)); \
	}
// Of 8 bits: 32 steps along K, contiguous in both. d = a b without ADD.
#define PL_WGMMA_F8(left, right, N, A, B, ADDS) \
	template <bool ADD> PL void pl_wgmma_f8##left##_f8##right##_n##N(float *d, u64 a, u64 b) \
	{ \
		asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k32.f32." #left "." #right " {" PL_WGMMA_LIST_##N "}, " \
			     "%" #A ", %" #B ", %" #ADDS ", 1, 1;" \
			     : PL_WGMMA_SUMS_##N(d) \
			     : "l"(a), "l"(b), "n"(ADD ? 1 : 0)); \
	}
PL_WGMMA_F8(e4m3, e4m3, 128, 64, 65, 66)
PL_WGMMA_F8(e4m3, e5m2, 128, 64, 65, 66)
PL_WGMMA_F8(e5m2, e4m3, 128, 64, 65, 66)
PL_WGMMA("bf16", bf16, 64, 32, 33, 34, 35)
PL_WGMMA("f16", f16, 64, 32, 33, 34, 35)
PL_WGMMA("bf16", bf16, 128, 64, 65, 66, 67)
PL_WGMMA("f16", f16, 128, 64, 65, 66, 67)
PL_WGMMA("bf16", bf16, 256, 128, 129, 130, 131)
PL_WGMMA("f16", f16, 256, 128, 129, 130, 131)
