# The image's variants: `make image VARIANT=sdxl`, or `docker buildx bake sdxl`.
#
# A variant of a model has it baked in; `pod` has what one wants on a machine that one logs in to.

variable "NAME" {
  default = "comfyworker"
}

variable "TAG" {
  default = "dev"
}

variable "COMFYUI_REF" {
  default = "v0.3.75"
}

variable "REVISION" {
  default = "unknown"
}

variable "CREATED" {
  default = "1970-01-01T00:00:00Z"
}

group "default" {
  targets = ["base"]
}

target "base" {
  context    = "."
  dockerfile = "Dockerfile"
  target     = "image"
  platforms  = ["linux/amd64"]
  tags       = ["${NAME}:${TAG}-base"]
  args = {
    COMFYUI_REF = COMFYUI_REF
    VERSION     = TAG
    REVISION    = REVISION
    CREATED     = CREATED
    MODEL_TYPE  = "base"
  }
}

target "pod" {
  inherits = ["base"]
  tags     = ["${NAME}:${TAG}-pod"]
  args = {
    JUPYTER        = "true"
    SSHD           = "true"
    SAGE_ATTENTION = "true"
  }
}

target "models" {
  name = replace(model, ".", "-")
  matrix = {
    model = ["sd1.5", "sdxl", "sd3", "flux1-schnell", "flux1-dev", "flux1-dev-fp8", "z-image-turbo", "config"]
  }
  inherits = ["base"]
  tags     = ["${NAME}:${TAG}-${model}"]
  args = {
    MODEL_TYPE = model
  }
  secret = ["id=HF_TOKEN,env=HF_TOKEN", "id=CIVITAI_TOKEN,env=CIVITAI_TOKEN", "id=GITHUB_TOKEN,env=GITHUB_TOKEN"]
}
