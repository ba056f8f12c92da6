/*
 * The picture by OpenGL 3.2 core: one texture, one rectangle. Only the rows that changed are uploaded.
 */
#include "ui/display-impl.h"

#include <epoxy/gl.h>

struct OrielGlPicture {
  GLuint texture, program, vertices, buffer;
  unsigned width, height;
};

static const char *const vertex_source = "#version 150\n"
                                         "in vec2 at;\nout vec2 where;\nuniform vec4 place;\n"
                                         "void main() {\n"
                                         "  where = at;\n"
                                         "  gl_Position = vec4(place.xy + at * place.zw, 0.0, 1.0);\n"
                                         "}\n";
static const char *const fragment_source = "#version 150\n"
                                           "in vec2 where;\nout vec4 colour;\nuniform sampler2D picture;\n"
                                           "void main() { colour = vec4(texture(picture, where).rgb, 1.0); }\n";

static GLuint compile(GLenum kind, const char *source)
{
  GLuint shader = glCreateShader(kind);
  GLint ok = 0;
  glShaderSource(shader, 1, &source, NULL);
  glCompileShader(shader);
  glGetShaderiv(shader, GL_COMPILE_STATUS, &ok);
  if (ok)
    return shader;
  glDeleteShader(shader);
  return 0;
}

static GLuint link_program(void)
{
  GLuint vertex = compile(GL_VERTEX_SHADER, vertex_source), fragment = compile(GL_FRAGMENT_SHADER, fragment_source);
  GLuint program = glCreateProgram();
  GLint ok = 0;
  if (vertex && fragment) {
    glAttachShader(program, vertex);
    glAttachShader(program, fragment);
    glBindAttribLocation(program, 0, "at");
    glLinkProgram(program);
    glGetProgramiv(program, GL_LINK_STATUS, &ok);
  }
  glDeleteShader(vertex);
  glDeleteShader(fragment);
  if (ok)
    return program;
  glDeleteProgram(program);
  return 0;
}

OrielGlPicture *oriel_gl_picture_new(void)
{
  static const float corners[] = { 0, 0, 1, 0, 0, 1, 1, 1 };
  GLuint program = epoxy_gl_version() >= 32 ? link_program() : 0;
  if (program == 0)
    return NULL;
  OrielGlPicture *gl = g_new0(OrielGlPicture, 1);
  gl->program = program;
  glGenTextures(1, &gl->texture);
  glGenVertexArrays(1, &gl->vertices);
  glGenBuffers(1, &gl->buffer);
  glBindVertexArray(gl->vertices);
  glBindBuffer(GL_ARRAY_BUFFER, gl->buffer);
  glBufferData(GL_ARRAY_BUFFER, sizeof corners, corners, GL_STATIC_DRAW);
  glEnableVertexAttribArray(0);
  glVertexAttribPointer(0, 2, GL_FLOAT, GL_FALSE, 0, NULL);
  return gl;
}

void oriel_gl_picture_free(OrielGlPicture *gl)
{
  if (gl == NULL)
    return;
  glDeleteTextures(1, &gl->texture);
  glDeleteVertexArrays(1, &gl->vertices);
  glDeleteBuffers(1, &gl->buffer);
  glDeleteProgram(gl->program);
  g_free(gl);
}

void oriel_gl_picture_upload(OrielGlPicture *gl, const VmFrame *frame, const VmRect *changed)
{
  glBindTexture(GL_TEXTURE_2D, gl->texture);
  glPixelStorei(GL_UNPACK_ROW_LENGTH, (GLint)frame->stride);
  if (gl->width != frame->width || gl->height != frame->height) {
    gl->width = frame->width;
    gl->height = frame->height;
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_S, GL_CLAMP_TO_EDGE);
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_T, GL_CLAMP_TO_EDGE);
    glTexImage2D(GL_TEXTURE_2D, 0, GL_RGB8, (GLsizei)gl->width, (GLsizei)gl->height, 0, GL_BGRA,
                 GL_UNSIGNED_INT_8_8_8_8_REV, frame->pixels);
  } else if (changed->width > 0 && changed->height > 0) {
    glTexSubImage2D(GL_TEXTURE_2D, 0, 0, changed->y, (GLsizei)gl->width, changed->height, GL_BGRA,
                    GL_UNSIGNED_INT_8_8_8_8_REV, frame->pixels + (size_t)changed->y * frame->stride);
  }
  glPixelStorei(GL_UNPACK_ROW_LENGTH, 0);
}

void oriel_gl_picture_draw(OrielGlPicture *gl, const OrielPlace *place, double whole_width, double whole_height,
                           bool smooth)
{
  GLint filter = smooth ? GL_LINEAR : GL_NEAREST;
  glClearColor(0, 0, 0, 1);
  glClear(GL_COLOR_BUFFER_BIT);
  if (gl->width == 0)
    return;
  glUseProgram(gl->program);
  glUniform4f(glGetUniformLocation(gl->program, "place"), (float)(2 * place->x / whole_width - 1),
              (float)(1 - 2 * place->y / whole_height), (float)(2 * place->width / whole_width),
              (float)(-2 * place->height / whole_height));
  glActiveTexture(GL_TEXTURE0);
  glBindTexture(GL_TEXTURE_2D, gl->texture);
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, filter);
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, filter);
  glUniform1i(glGetUniformLocation(gl->program, "picture"), 0);
  glBindVertexArray(gl->vertices);
  glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
}
