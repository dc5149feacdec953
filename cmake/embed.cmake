# Writes OUT, a C file with the text of each of FILES as `{ "name", text, length }`: the array ARRAY of Embedded
# (support/embedded.h), which HEADER declares, ended by a NULL name. Bytes are written as hexadecimal: no limit on a string literal's length applies.
set(body "#include \"${HEADER}\"\n")
set(table "")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME_WE)
  string(MAKE_C_IDENTIFIER ${name} id)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND body "static const unsigned char file_${id}[] = { ${bytes} 0 };\n")
  string(APPEND table "\t{ \"${name}\", (const char *)file_${id}, sizeof file_${id} - 1 },\n")
endforeach()
string(APPEND body "const Embedded ${ARRAY}[] = {\n${table}\t{ 0, 0, 0 }\n};\n")
file(WRITE ${OUT} "${body}")
