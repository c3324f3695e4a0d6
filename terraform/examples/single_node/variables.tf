# SPDX-License-Identifier: GPL-3.0-or-later
# What each means, and what is allowed, stands in modules/evidence_bucket/variables.tf.

variable "name" {
  type        = string
  description = "What the buckets are called: NAME-evidence, NAME-keys, NAME-lake."
}

variable "region" {
  type        = string
  description = "The AWS region of the buckets."
}

variable "evidence_lock" {
  type = object({
    mode = optional(string, "COMPLIANCE")
    days = optional(number, 400)
  })
  default     = {}
  description = "Object Lock of the evidence."
}

variable "keys_lock_days" {
  type        = number
  default     = 7
  description = "How long a wrapped session key cannot be deleted, in days."
}

variable "auditor_arns" {
  type        = list(string)
  default     = []
  description = "IAM principals that may take the auditor's role."
}

variable "eraser_arns" {
  type        = list(string)
  default     = []
  description = "IAM principals that may take the eraser's role."
}

variable "writer_principals" {
  type = object({
    services = optional(list(string), [])
    arns     = optional(list(string), [])
  })
  default     = { services = ["ec2.amazonaws.com"] }
  description = "Who may take the writer's role."
}

variable "force_destroy" {
  type        = bool
  default     = false
  description = "Whether destroying may delete buckets that hold objects: for trials."
}
